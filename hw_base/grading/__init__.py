"""Scoring strangers' submissions: predictions are made in a sandbox, and scored outside of it."""

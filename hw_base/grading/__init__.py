"""Scoring untrusted submissions: predictions are made in a sandbox, and scored outside of it."""

"""Predictions of a checkpoint and their figures."""

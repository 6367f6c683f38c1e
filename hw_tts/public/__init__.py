"""Checkpoints of other programs, both ways."""

"""Acoustic models and vocoders."""

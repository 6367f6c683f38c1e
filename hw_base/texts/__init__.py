"""Texts: read from files as people have them, normalized, compared, and aligned with time."""

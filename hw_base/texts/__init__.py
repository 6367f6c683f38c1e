"""Texts: read from files as people have them, normalized, and compared."""

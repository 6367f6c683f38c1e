"""Measures of synthetic speech."""

"""Waveforms in and out, and their features."""

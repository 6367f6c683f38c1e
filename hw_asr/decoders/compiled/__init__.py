"""Beam search compiled by numba, for a CPU."""

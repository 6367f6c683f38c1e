"""Losses of recognition."""

from hw_asr.losses import ctc, intermediate_ctc

__all__ = ["ctc", "intermediate_ctc"]

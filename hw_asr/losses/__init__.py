"""Losses of recognition."""

from hw_asr.losses import consistency, ctc, intermediate_ctc

__all__ = ["consistency", "ctc", "intermediate_ctc"]

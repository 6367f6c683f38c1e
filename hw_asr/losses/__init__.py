"""Losses of recognition."""

from hw_asr.losses import consistency, ctc, intermediate_ctc, transducer

__all__ = ["consistency", "ctc", "intermediate_ctc", "transducer"]

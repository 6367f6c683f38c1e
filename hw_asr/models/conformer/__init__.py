"""Conformer, in parts that can be used alone."""

from hw_asr.models.conformer.model import Conformer

__all__ = ["Conformer"]

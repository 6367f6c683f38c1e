"""Trainers of recognition besides the one in `hw_asr.trainer`."""

from hw_asr.trainers import consistency

__all__ = ["consistency"]

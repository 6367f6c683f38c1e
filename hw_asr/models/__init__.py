"""Acoustic models; importing this package registers them."""

from hw_asr.models.deepspeech2 import DeepSpeech2

__all__ = ["DeepSpeech2"]

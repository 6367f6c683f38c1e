"""Trainers of synthesis: acoustic models, VITS2, vocoders."""

from hw_tts.trainers import synthesis, vits2, vocoder

__all__ = ["synthesis", "vits2", "vocoder"]

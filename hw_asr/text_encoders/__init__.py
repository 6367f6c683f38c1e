"""Transcripts to token ids and back."""

from hw_asr.text_encoders import characters, sentencepiece

__all__ = ["characters", "sentencepiece"]

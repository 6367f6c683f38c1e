"""Features of speech: mel, pitch, energy; their cache and statistics."""

from hw_tts.features import acoustic

__all__ = ["acoustic"]

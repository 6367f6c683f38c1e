"""Records of synthesis made into items and batches."""

from hw_tts.data import aligned, collate

__all__ = ["aligned", "collate"]

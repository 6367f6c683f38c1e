"""Records of recognition made into items and batches."""

from hw_asr.data import collate

__all__ = ["collate"]

"""Which frames belong to which symbol: given, read, or learned."""

from hw_tts.alignment import datasets, learned

__all__ = ["datasets", "learned"]

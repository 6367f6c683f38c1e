"""Tables of speakers, and how new speakers are initialized."""

from hw_tts.speakers import initial

__all__ = ["initial"]

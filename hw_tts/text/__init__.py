"""Text front ends: from writing to symbols to ids; importing this package registers them."""

from hw_tts.text import characters, espeak_phones

__all__ = ["characters", "espeak_phones"]

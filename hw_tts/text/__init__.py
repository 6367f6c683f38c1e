"""Text front ends: from writing to symbols to ids; importing this package registers them."""

from hw_tts.text import arpabet, characters, espeak_phones, ipa, none

__all__ = ["arpabet", "characters", "espeak_phones", "ipa", "none"]

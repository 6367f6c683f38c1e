"""The phones that espeak-ng speaks a text with: those of the embedded corpus."""

import contextlib

from hw_base import synthetic
from hw_base.errors import MissingPackageError
from hw_base.espeak import Utterance, check_voices
from hw_base.registry import TEXT_ENCODERS
from hw_base.speaking import LazySpeaker
from hw_tts.text.base import BaseTextFrontEnd

# Texts whose symbols are remembered; more than any corpus of one speaker has.
MAX_CACHED = 1 << 16


@TEXT_ENCODERS.register()
class EspeakPhones(BaseTextFrontEnd):
    """The symbols that `hw_base.synthetic.SyntheticSpeech` gives for a text, in its inventory and order.

    A stressed vowel begins with ``'`` or ``,``; pauses are ``_``, and the first and the last symbol are pauses. So a
    model trained on the corpus's exact phones speaks any text. The table is learned, because accents have different
    inventories. Punctuation is heard as pauses; numbers and abbreviations are read by espeak-ng itself.

    Args:
        accent: a voice of espeak-ng as in `hw_base.espeak.check_voices`; variants do not change the symbols.
        add_blank: id 0 before, between and after the symbols.

    Raises:
        ConfigError: unknown accent.
        MissingPackageError: espeakng-loader is not installed; only once a text is to be read.
    """

    separator = " "

    def __init__(self, accent: str = "en-us", add_blank: bool = False) -> None:
        # Phones that come with the recordings need no library.
        with contextlib.suppress(MissingPackageError):
            check_voices([accent])
        super().__init__((), add_blank)
        self.accent = accent
        self._speaker = LazySpeaker()
        self._cache: dict[str, tuple[str, ...]] = {}

    def symbols(self, text: str) -> list[str]:
        """The phones of a text, pauses included; none where espeak-ng finds nothing to speak.

        Raises:
            DataError: espeak-ng failed.
        """
        text = self.normalize(text)
        if text not in self._cache:
            speech = self._speaker.say(Utterance(text, self.accent))
            phones = [symbol for symbol, _ in synthetic.tile(speech, 1, 1)]
            if len(self._cache) >= MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[text] = tuple(phones) if set(phones) - {synthetic.SILENCE} else ()
        return list(self._cache[text])

    def close(self) -> None:
        """End the speaking process; the next text starts another."""
        self._speaker.close()

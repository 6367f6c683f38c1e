"""What the front ends that ask espeak-ng share: an accent, a speaking process, and a memory of texts."""

import contextlib
from abc import abstractmethod
from collections.abc import Sequence

from hw_base.errors import MissingPackageError
from hw_base.synthetic.espeak import check_voices
from hw_base.synthetic.lazy_speaker import LazySpeaker
from hw_tts.text.base import BaseTextFrontEnd
from hw_tts.text.languages import language_of, refuse_foreign

# Texts whose symbols are remembered; more than most corpora have.
MAX_CACHED = 1 << 16


class SpokenFrontEnd(BaseTextFrontEnd):
    """A front end with a speaking process, which starts with the first text and is never shared between processes.

    Args:
        accent: a voice of espeak-ng as in `hw_base.synthetic.espeak.check_voices`.
        table: as in `BaseTextFrontEnd`.
        add_blank: as in `BaseTextFrontEnd`.

    Raises:
        ConfigError: unknown accent.
        MissingPackageError: espeakng-loader is not installed; only once a text is to be read.
    """

    def __init__(self, accent: str, table: Sequence[str] = (), add_blank: bool = False) -> None:
        # Symbols that come with the recordings need no library.
        with contextlib.suppress(MissingPackageError):
            check_voices([accent])
        super().__init__(table, add_blank)
        self.accent, self.language = accent, language_of(accent)
        self._speaker = LazySpeaker()
        self._cache: dict[str, tuple[str, ...]] = {}

    @abstractmethod
    def _read(self, text: str) -> list[str]:
        """The symbols of a normalized text."""

    def symbols(self, text: str) -> list[str]:
        """The symbols of a text; none where there is nothing to speak.

        Raises:
            DataError: espeak-ng failed, or words are in letters of another script than the accent's language, which
                espeak-ng would spell letter by letter or leave out.
        """
        text = self.normalize(text)
        if text not in self._cache:
            if not self._is_phonetic(text):
                refuse_foreign(text, self.language)
            symbols = tuple(self._read(text))
            if len(self._cache) >= MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[text] = symbols
        return list(self._cache[text])

    def _is_phonetic(self, text: str) -> bool:
        """Whether a text is phonetic writing already, which has letters of several scripts."""
        return False

    def close(self) -> None:
        """End the speaking process; the next new text starts another."""
        self._speaker.close()

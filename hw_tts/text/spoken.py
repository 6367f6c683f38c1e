"""What the front ends that ask espeak-ng share: an accent, a speaking process, and a memory of texts."""

import contextlib
from abc import abstractmethod
from collections.abc import Sequence

from hw_base.errors import MissingPackageError
from hw_base.synthetic.espeak import check_voices
from hw_base.synthetic.lazy_speaker import LazySpeaker
from hw_tts.text.base import BaseTextFrontEnd

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
        self.accent = accent
        self._speaker = LazySpeaker()
        self._cache: dict[str, tuple[str, ...]] = {}

    @abstractmethod
    def _read(self, text: str) -> list[str]:
        """The symbols of a normalised text."""

    def symbols(self, text: str) -> list[str]:
        """The symbols of a text; none where there is nothing to speak.

        Raises:
            DataError: espeak-ng failed.
        """
        text = self.normalize(text)
        if text not in self._cache:
            symbols = tuple(self._read(text))
            if len(self._cache) >= MAX_CACHED:
                del self._cache[next(iter(self._cache))]
            self._cache[text] = symbols
        return list(self._cache[text])

    def close(self) -> None:
        """End the speaking process; the next new text starts another."""
        self._speaker.close()

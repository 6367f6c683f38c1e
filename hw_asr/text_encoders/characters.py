"""Vocabularies of recognition: token ids with the CTC blank at 0."""

import re
import unicodedata
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.registry import TEXT_ENCODERS
from hw_base.text import BaseTextEncoder
from hw_base.texts.normalizers import APOSTROPHES

ENGLISH = " 'abcdefghijklmnopqrstuvwxyz"


@TEXT_ENCODERS.register()
class CharTextEncoder(BaseTextEncoder):
    """One token for each character; the blank is 0 and the alphabet's characters follow in its own order.

    Texts are lower-cased and typographic apostrophes made plain. A character outside the alphabet loses its accents
    (``é`` -> ``e``); punctuation separates words; what is still outside is left out and reported by `unknown`.

    Args:
        alphabet: characters, each once, in lower case.
    """

    def __init__(self, alphabet: Annotated[str, Field(min_length=1)] = ENGLISH) -> None:
        repeated = sorted({c for c in alphabet if alphabet.count(c) > 1})
        if repeated:
            raise ConfigError(f"alphabet: {repeated} stand in it more than once")
        self._set(alphabet)
        unreachable = [c for c in alphabet if c != " " and self.normalize(c) != c]
        if unreachable:
            raise ConfigError(f"alphabet: {unreachable} cannot occur in a lower-cased, normalized text")

    def _set(self, alphabet: str) -> None:
        self.alphabet = alphabet
        self._ids = {character: i for i, character in enumerate(alphabet, start=1)}

    def __len__(self) -> int:
        return 1 + len(self.alphabet)

    def normalize(self, text: str) -> str:
        """The text in characters of the alphabet, with single spaces between words and none around."""
        return self._fold(text)[0]

    def unknown(self, text: str) -> list[str]:
        """The lower-cased characters that `normalize` leaves out, in order; not punctuation and accents."""
        return self._fold(text)[1]

    def encode(self, text: str) -> list[int]:
        """Ids of the normalized text."""
        return [self._ids[character] for character in self.normalize(text)]

    def decode(self, tokens: Sequence[int]) -> str:
        """The characters of ids in ``1 .. len(self) - 1``."""
        bad = [token for token in tokens if not 0 < token < len(self)]
        if bad:
            raise DataError(f"token ids {bad[:5]} are outside 1..{len(self) - 1} and have no character")
        return "".join(self.alphabet[token - 1] for token in tokens)

    def state_dict(self) -> dict[str, Any]:
        """The alphabet."""
        return {"alphabet": self.alphabet}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the alphabet of a checkpoint."""
        alphabet = state.get("alphabet")
        if not isinstance(alphabet, str):
            raise CheckpointError(f"the text encoder's state has no alphabet; found {sorted(state)}")
        self._set(alphabet)

    def _fold(self, text: str) -> tuple[str, list[str]]:
        """The normalized text, and the characters that no rule could keep."""
        kept: list[str] = []
        unknown: list[str] = []
        text = unicodedata.normalize("NFC", text).lower()
        if self._ids.keys() >= set(text):  # nothing to fold, as in most transcripts: less than half of the time
            kept.append(text)
            text = ""
        for character in text:
            folded = self._fold_character(character)
            if folded is None:
                unknown.append(character)
            else:
                kept.append(folded)
        return re.sub(" +", " " if " " in self._ids else "", "".join(kept)).strip(), unknown

    def _fold_character(self, character: str) -> str | None:
        """What stands for a character: text of the alphabet, a space, or nothing; None where there is no rule."""
        if character in self._ids or character.isspace():
            return " " if character.isspace() else character
        if character in APOSTROPHES:
            return "'" if "'" in self._ids else ""
        if unicodedata.category(character).startswith("P"):
            return " "
        parts = unicodedata.normalize("NFKD", character).casefold()
        letters = [c for c in parts if not unicodedata.combining(c)]
        if all(c in self._ids or c.isspace() for c in letters):
            return "".join(" " if c.isspace() else c for c in letters)
        return None

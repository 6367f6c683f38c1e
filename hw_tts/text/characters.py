"""Characters of cleaned text, the symbols of the first public recipes."""

import unicodedata
from typing import Annotated

from pydantic import Field

from hw_base.errors import ConfigError
from hw_base.registry import TEXT_ENCODERS
from hw_tts.text.base import BaseTextFrontEnd
from hw_tts.text.languages import Language, clean

ENGLISH = " !'(),-.:;?abcdefghijklmnopqrstuvwxyz"
RUSSIAN = " !'(),-.:;?абвгдежзийклмнопрстуфхцчшщъыьэюяё"
_ALPHABETS = {"en": ENGLISH, "ru": RUSSIAN}


@TEXT_ENCODERS.register()
class CharacterFrontEnd(BaseTextFrontEnd):
    """One symbol for each character of the cleaned text that is in the alphabet; the others are left out.

    With the alphabet of English these are the characters that the durations published for LJSpeech are given for.

    Args:
        alphabet: characters, each once; None is the language's own.
        add_blank: id 0 before, between and after the characters.
        language: by whose rules texts are cleaned: ``en`` or ``ru``.

    Raises:
        ConfigError: a character stands twice in the alphabet, or can never occur in a cleaned text.
    """

    def __init__(
        self,
        alphabet: Annotated[str, Field(min_length=1)] | None = None,
        add_blank: bool = False,
        language: Language = "en",
    ) -> None:
        alphabet = _ALPHABETS[language] if alphabet is None else alphabet
        self.language: Language = language
        repeated = sorted({c for c in alphabet if alphabet.count(c) > 1})
        if repeated:
            raise ConfigError(f"alphabet: {repeated} stand in it more than once")
        unreachable = [c for c in alphabet if c != " " and clean(c, language) != c]
        if unreachable:
            raise ConfigError(f"alphabet: {unreachable} cannot occur in a cleaned text")
        super().__init__(list(alphabet), add_blank)

    def symbols(self, text: str) -> list[str]:
        """The characters of the cleaned text."""
        return [character for character in clean(text, self.language) if character in self._ids]

    def normalize(self, text: str) -> str:
        """The cleaned text, in characters of the alphabet."""
        return "".join(self.symbols(text))

    def unknown(self, text: str) -> list[str]:
        """The characters that are left out, in order, but for punctuation, which has no sound."""
        missing = self.unknown_symbols(list(clean(text, self.language)))
        return [c for c in missing if not unicodedata.category(c).startswith("P")]

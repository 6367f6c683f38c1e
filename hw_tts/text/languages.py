"""Which cleaning and which letters belong to a language."""

import unicodedata
from collections.abc import Callable
from typing import Literal

from hw_base.errors import DataError
from hw_tts.text import cleaning, russian

Language = Literal["en", "ru"]

CLEANERS: dict[str, Callable[[str], str]] = {"en": cleaning.clean, "ru": russian.clean}
_CYRILLIC = frozenset(("be", "bg", "ba", "cv", "kk", "ky", "mk", "ru", "sr", "tt", "uk"))
# Of espeak-ng: neither Latin nor Cyrillic letters, or several scripts.
_OTHER = frozenset(
    (
        *("am", "ar", "as", "bn", "bpy", "chr", "cmn", "el", "grc", "fa", "gu", "he", "hi", "hy"),
        *("hyw", "ja", "ka", "kn", "ko", "kok", "ml", "mr", "mto", "my", "ne", "or", "pa", "sd"),
        *("shn", "si", "ta", "te", "th", "ug", "ur", "yue"),
    )
)


def language_of(accent: str) -> str:
    """Of a voice of espeak-ng: ``en-gb-scotland`` -> ``en``."""
    return accent.partition("+")[0].partition("-")[0].lower()


def clean(text: str, language: str) -> str:
    """A text as it is read; of languages without a cleaner of their own in lower case, with single spaces."""
    return CLEANERS.get(language, _plain)(text)


def _plain(text: str) -> str:
    return cleaning.collapse(unicodedata.normalize("NFKC", text).lower())


def script_of(language: str) -> str | None:
    """``LATIN`` or ``CYRILLIC``; None where letters are not checked."""
    if language in _OTHER:
        return None
    return "CYRILLIC" if language in _CYRILLIC else "LATIN"


def foreign_words(text: str, language: str) -> list[str]:
    """The words of a text that hold letters of another script than the language's, in order."""
    script = script_of(language)
    if script is None:
        return []
    return [word for word in text.split() if any(_is_foreign(character, script) for character in word)]


def refuse_foreign(text: str, language: str) -> None:
    """Raise where `foreign_words` finds something.

    Raises:
        DataError: which words, and which script they should be in.
    """
    foreign = foreign_words(text, language)
    if foreign:
        words = ", ".join(repr(word) for word in dict.fromkeys(foreign[:10]))
        script = str(script_of(language)).title()
        raise DataError(f"the text {text[:60]!r} has words that are not in {script} letters: {words}; spell them in it")


def _is_foreign(character: str, script: str) -> bool:
    if character < "\u0080":
        return script != "LATIN" and character.isalpha()
    # Compatibility letters, as in full width, count as what they stand for; ligatures are several.
    letters = unicodedata.normalize("NFKC", character)
    return any(
        unicodedata.category(c) in ("Lu", "Ll", "Lt", "Lo") and script not in unicodedata.name(c, "") for c in letters
    )

"""English as written -> English as read: lower case, plain letters, numbers and abbreviations spelled out.

The steps are those that the public recipes for LJSpeech share, so that the durations published for them fit: there the
count of characters matters. Reading of numbers is American, without "and".
"""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from hw_base.errors import MissingPackageError

# What public recipes expand, each with a full stop behind it. More would move the published durations.
ABBREVIATIONS = {
    "mrs": "missus",
    "mr": "mister",
    "dr": "doctor",
    "st": "saint",
    "co": "company",
    "jr": "junior",
    "maj": "major",
    "gen": "general",
    "drs": "doctors",
    "rev": "reverend",
    "lt": "lieutenant",
    "hon": "honorable",
    "sgt": "sergeant",
    "capt": "captain",
    "esq": "esquire",
    "ltd": "limited",
    "col": "colonel",
    "ft": "fort",
}
SIGNS = {"&": "and", "@": "at", "%": "percent", "+": "plus", "=": "equals", "°": "degrees"}
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
}
# What decomposition leaves as it is.
_PLAIN = {
    **dict.fromkeys("\u2018\u2019\u201b\u02bc\u2032\u00b4`", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
    **{"æ": "ae", "œ": "oe", "ø": "o", "ß": "ss", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "\u0131": "i"},
}
_PLAIN.update({key.upper(): value.upper() for key, value in _PLAIN.items() if key.isalpha() and key not in "ß\u0131"})
_SCALES = {"k": "thousand", "m": "million", "bn": "billion"}
_SCALES.update({word: word for word in ("hundred", "thousand", "million", "billion", "trillion")})
# Longer numbers are identifiers rather than quantities, and are read digit by digit.
_MAX_DIGITS = 15

# Every pattern begins where a run of digits begins and takes it whole: the time is linear, whatever the text.
_NUMBER = r"(?<![\d])(?:\d{1,3}(?:,\d{3}){1,8}(?![\d,])|\d+)(?!\d)"
_RANGE = re.compile(r"(?<![\d.,-])(\d{1,4})-(?=\d{1,4}(?![\d-]))")
_NEGATIVE = re.compile(r"(?:(?<=\s)|^)-(?=[$£€]?\d)")
_CURRENCY = re.compile(rf"([$£€])\s?({_NUMBER})(?:\.(\d+)(?!\d))?(?:[ -]?({'|'.join(_SCALES)})\b)?", re.IGNORECASE)
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")
_ORDINAL = re.compile(rf"({_NUMBER})(?:st|nd|rd|th)\b", re.IGNORECASE)
_DECADE = re.compile(r"(?<![\d.,])'?(\d{1,3}0)'?s\b")
_DOTTED = re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}")
_DECIMAL = re.compile(rf"({_NUMBER})?\.(\d+)(?!\d)")
_WHOLE = re.compile(_NUMBER)
# The sign of a fraction, and figures with a stroke; a date or "24/7" is none.
_VULGAR = re.compile("(?<=[0-9])()(?=[\u00bc-\u00be\u2150-\u215f\u2189])")
_FRACTION = re.compile(r"(?<![\d/.,])(?:(\d{1,3}(?:,\d{3})+|\d+)\s+(?:and\s+)?)?(\d{1,3})[/\u2044](\d{1,3})(?![\d/])")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)-(?=\d)")
_ABBREVIATION = re.compile(rf"\b({'|'.join(ABBREVIATIONS)})\.", re.IGNORECASE)
_SIGN = re.compile("|".join(map(re.escape, SIGNS)))
# Between words without a space; left out, they would make one word of two.
_SEPARATOR = re.compile(r"[/\\|_~\u2044\u2022\u00b7]")


def clean(text: str) -> str:
    """English text as it is read: all of the steps below.

    Raises:
        MissingPackageError: the text holds a digit and num2words is not installed.
    """
    text = fold(separate_fractions(text)).lower()
    if any(character.isdigit() for character in text):
        text = expand_numbers(text)
    return collapse(expand_signs(expand_abbreviations(text)))


def fold(text: str) -> str:
    """Letters without accents, quotation marks and dashes of the typewriter; other scripts stay as they are."""
    decomposed = unicodedata.normalize("NFKD", typewriter(text))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def typewriter(text: str) -> str:
    """Quotation marks and dashes of the typewriter, and letters that have no accent to lose, such as ``ø``."""
    return "".join(_PLAIN.get(character, character) for character in text)


def separate_fractions(text: str) -> str:
    """A space between a figure and a sign such as ``½`` behind it, which stands for figures itself."""
    return _VULGAR.sub(r"\1 ", text)


def expand_abbreviations(text: str) -> str:
    """``dr. who`` -> ``doctor who``, for every one of `ABBREVIATIONS`."""
    return _ABBREVIATION.sub(lambda match: ABBREVIATIONS[match[1].lower()], text)


def expand_signs(text: str) -> str:
    """``5 & 6`` -> ``5 and 6``, for every one of `SIGNS`; strokes between words become spaces."""
    return _SEPARATOR.sub(" ", _SIGN.sub(lambda match: f" {SIGNS[match[0]]} ", text))


def collapse(text: str) -> str:
    """Single spaces between words, none around."""
    return " ".join(text.split())


def expand_numbers(text: str) -> str:
    """Fractions, amounts of money, times, ordinals, decades, years, decimals and all other numbers in words.

    A number of four digits without a comma, from 1100 to 2099, is read as a year; one that begins with a zero or has
    more than 15 digits is read digit by digit.

    Raises:
        MissingPackageError: num2words is not installed.
    """
    rules: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
        (_RANGE, lambda match: f"{match[1]} to "),
        (_BETWEEN_DIGITS, lambda match: " "),
        (_NEGATIVE, lambda match: "minus "),
        (_FRACTION, _fraction),
        (_CURRENCY, _money),
        (_TIME, _time),
        (_ORDINAL, lambda match: _words(_integer(match[1]), "ordinal")),
        (_DECADE, _decade),
        (_DOTTED, lambda match: match[0].replace(".", " point ")),
        (_DECIMAL, lambda match: f"{_cardinal(match[1] or '0')} point {_digits(match[2])}"),
        (_WHOLE, _whole),
    )
    for pattern, rule in rules:
        text = pattern.sub(_apart(rule), text)
    return text


def _apart(rule: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
    """The rule, with a space where a letter or digit touches the number."""

    def words(match: re.Match[str]) -> str:
        start, end = match.span()
        before, after = match.string[max(start - 1, 0) : start], match.string[end : end + 1]
        return f"{' ' if before.isalnum() else ''}{rule(match)}{' ' if after.isalnum() else ''}"

    return words


def _money(match: re.Match[str]) -> str:
    one, many, small_one, small_many = _CURRENCIES[match[1]]
    whole, fraction, scale = _integer(match[2]), match[3] or "", match[4] or ""
    scale = _SCALES[scale.lower()] if scale else ""
    if scale or len(fraction) not in (0, 2):
        amount = _cardinal(match[2]) + (f" point {_digits(fraction)}" if fraction else "")
        return " ".join(filter(None, (amount, scale, many)))
    small = int(fraction or 0)
    parts = [f"{_cardinal(match[2])} {one if whole == 1 else many}"] if whole or not small else []
    if small:
        parts.append(f"{_words(small)} {small_one if small == 1 else small_many}")
    return ", ".join(parts)


def _fraction(match: re.Match[str]) -> str:
    above, below = int(match[2]), int(match[3])
    if not 0 < above < below:
        return match[0].replace("/", " ").replace("\u2044", " ")
    if below in (2, 4):
        part = {2: "half", 4: "quarter" if above == 1 else "quarters"}[below]
    else:
        part = _words(below, "ordinal") + ("" if above == 1 else "s")
    if not match[1]:
        return f"{_words(above)} {part}"
    return f"{_cardinal(match[1])} and {'a' if above == 1 else _words(above)} {part}"


def _time(match: re.Match[str]) -> str:
    hours, minutes = int(match[1]), int(match[2])
    if minutes == 0:
        return f"{_words(hours)} o'clock"
    return f"{_words(hours)} {'oh ' if minutes < 10 else ''}{_words(minutes)}"


def _decade(match: re.Match[str]) -> str:
    words = _year(int(match[1]))
    return words[:-1] + "ies" if words.endswith("y") else words + "s"


def _whole(match: re.Match[str]) -> str:
    digits = match[0]
    if len(digits) == 4 and 1100 <= int(digits) < 2100:
        return _year(int(digits))
    return _cardinal(digits)


def _year(number: int) -> str:
    # The package says "nineteen oh-five" for 1905, and "two thousand and five".
    return _words(number, "year").replace("oh-", "oh ") if number > 999 else _words(number)


def _cardinal(digits: str) -> str:
    plain = digits.replace(",", "")
    if len(plain) > _MAX_DIGITS or (len(plain) > 1 and plain.startswith("0")):
        return _digits(plain)
    return _words(int(plain))


def _digits(digits: str) -> str:
    return " ".join(_words(int(digit)) for digit in digits)


def _integer(digits: str) -> int:
    return int(digits.replace(",", "")[:_MAX_DIGITS])


@lru_cache(maxsize=4096)
def _words(number: int, kind: str = "cardinal") -> str:
    return number_words(number, kind, "en").replace(",", "").replace(" and ", " ")


def number_words(number: int, kind: str, language: str) -> str:
    """A number in words.

    Args:
        number: not negative.
        kind: ``cardinal``, ``ordinal`` or ``year``.
        language: as num2words calls it.

    Raises:
        MissingPackageError: num2words is not installed.
    """
    words: str = _num2words()(number, to=kind, lang=language)
    return words


def _num2words() -> Any:
    try:
        from num2words import num2words
    except ImportError as error:
        raise MissingPackageError("numbers in text", "num2words") from error
    return num2words

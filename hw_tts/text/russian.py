"""Russian as written -> Russian as read: lower case, numbers, signs and common abbreviations in words.

``ё`` and ``й`` are kept, marks of stress are not. Numbers are read in the nominative case, because the case that a
sentence needs cannot be decided without parsing it.
"""

import re
import unicodedata
from functools import lru_cache

from hw_tts.text.cleaning import collapse, number_words, separate_fractions, typewriter

ABBREVIATIONS = {
    r"и\s*т\.\s*д\.": "и так далее",
    r"и\s*т\.\s*п\.": "и тому подобное",
    r"т\.\s*е\.": "то есть",
    r"т\.\s*к\.": "так как",
    r"т\.\s*н\.": "так называемый",
}
SIGNS = {"&": "и", "+": "плюс", "=": "равно", "№": "номер", "@": "собака"}
# Sign -> its word after 1, after 2 to 4, after all other numbers; and whether the word is feminine.
_UNITS = {
    "%": ("процент", "процента", "процентов"),
    "°": ("градус", "градуса", "градусов"),
    "₽": ("рубль", "рубля", "рублей"),
    "$": ("доллар", "доллара", "долларов"),
    "€": ("евро", "евро", "евро"),
}
# The two Latin letters that other systems write for the two Cyrillic ones would be another script.
_ACUTE_AND_GRAVE = ("\u0301", "\u0300")
_MAX_DIGITS = 15

_NUMBER = r"(?<!\d)(?:\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?!\d)|\d+)"
_SIGN_FIRST = re.compile(rf"([$€₽])\s?({_NUMBER}(?:,\d+)?)")
_UNIT = re.compile(rf"({_NUMBER})(?:,(\d+))?\s?([{''.join(_UNITS)}])")
_RANGE = re.compile(r"(?<![\d.,-])(\d{1,4})-(?=\d{1,4}(?![\d-]))")
_NEGATIVE = re.compile(r"(?:(?<=\s)|^)-(?=\d)")
_TIME = re.compile(r"(?<![\d:.])([01]?\d|2[0-3]):([0-5]\d)(?![\d:])")
_FRACTION = re.compile(r"(?<![\d/.,])(?:(\d{1,4})\s+(?:и\s+)?)?(\d{1,3})[/\u2044](\d{1,3})(?![\d/])")
_ORDINAL = re.compile(r"(?<!\d)(\d{1,15})-(ый|ий|ой|й|ая|я|ое|ее|е|ого|его|го|ому|ему|му|ым|им|м|ом|ем|ых|их|х)\b")
_DECIMAL = re.compile(rf"({_NUMBER}),(\d{{1,6}})(?!\d)")
_WHOLE = re.compile(_NUMBER)
_TENTHS = {1: "десятая", 2: "сотая", 3: "тысячная", 4: "десятитысячная", 5: "стотысячная", 6: "миллионная"}
# Of adjectives, hard ones and "третий": the last letters of the nominative -> stem ending by gender and case.
_ENDINGS = {
    **dict.fromkeys(("ый", "ий", "ой", "й"), ("", "")),
    **dict.fromkeys(("ая", "я"), ("ая", "ья")),
    **dict.fromkeys(("ое", "ее", "е"), ("ое", "ье")),
    **dict.fromkeys(("ого", "его", "го"), ("ого", "ьего")),
    **dict.fromkeys(("ому", "ему", "му"), ("ому", "ьему")),
    **dict.fromkeys(("ым", "им", "м"), ("ым", "ьим")),
    **dict.fromkeys(("ом", "ем"), ("ом", "ьем")),
    **dict.fromkeys(("ых", "их", "х"), ("ых", "ьих")),
}


def clean(text: str) -> str:
    """Russian text as it is read.

    Raises:
        MissingPackageError: the text holds a digit and num2words is not installed.
    """
    text = fold(text).lower()
    for pattern, words in ABBREVIATIONS.items():
        text = re.sub(rf"(?<!\w){pattern}", words, text)
    if any(character.isdigit() for character in text):
        text = expand_numbers(text)
    for sign, word in SIGNS.items():
        text = text.replace(sign, f" {word} ")
    for sign, (_, _, many) in _UNITS.items():
        text = text.replace(sign, f" {many} ")
    return collapse(re.sub(r"[/\\|_~\u2044\u2022\u00b7]", " ", text))


def fold(text: str) -> str:
    """Letters without marks of stress, quotation marks and dashes of the typewriter."""
    text = separate_fractions(text).replace("№", "\ue000")  # which compatibility would make the Latin "No"
    decomposed = unicodedata.normalize("NFKD", typewriter(text))
    plain = "".join(character for character in decomposed if character not in _ACUTE_AND_GRAVE)
    return unicodedata.normalize("NFC", plain).replace("\ue000", "№")


def expand_numbers(text: str) -> str:
    """Amounts, times, fractions, ordinals with their endings, decimals and all other numbers in words."""
    text = _SIGN_FIRST.sub(r"\2 \1", text)
    text = _RANGE.sub(r"\1 - ", text)
    text = _NEGATIVE.sub("минус ", text)
    text = _TIME.sub(lambda m: f"{_words(int(m[1]))} {'ноль ' if 0 < int(m[2]) < 10 else ''}{_words(int(m[2]))}", text)
    text = _FRACTION.sub(_fraction, text)
    text = _UNIT.sub(_amount, text)
    text = _ORDINAL.sub(lambda match: ordinal(int(match[1]), match[2]), text)
    text = _DECIMAL.sub(lambda match: _decimal(match[1], match[2]), text)
    return _WHOLE.sub(lambda match: f" {_cardinal(match[0])} ", text)


def ordinal(number: int, ending: str) -> str:
    """``5``, ``го`` -> ``пятого``; the ending as it is written behind figures."""
    nominative = number_words(number, "ordinal", "ru")
    hard, soft = _ENDINGS[ending]
    if not hard:
        return nominative
    return nominative[:-2] + (soft if nominative.endswith("третий") else hard)


def _fraction(match: re.Match[str]) -> str:
    whole, above, below = match[1], int(match[2]), int(match[3])
    if not 0 < above < below or below < 2:
        return match[0].replace("/", " ").replace("\u2044", " ")
    one = above % 10 == 1 and above % 100 != 11
    part = f"{_feminine(above)} {ordinal(below, 'ая' if one else 'ых')}"
    return (
        f" {_feminine(int(whole))} {'целая' if _plural(int(whole)) == 0 else 'целых'} {part} " if whole else f" {part} "
    )


def _amount(match: re.Match[str]) -> str:
    one, few, many = _UNITS[match[3]]
    if match[2]:
        return f"{_decimal(match[1], match[2])} {few} "
    return f"{_cardinal(match[1])} {(one, few, many)[_plural(_integer(match[1]))]} "


def _decimal(whole: str, digits: str) -> str:
    number, part = _integer(whole), int(digits)
    unit = _TENTHS.get(len(digits))
    if unit is None:
        return f"{_cardinal(whole)} запятая {' '.join(_words(int(digit)) for digit in digits)}"
    if part % 10 != 1 or part % 100 == 11:
        unit = unit[:-2] + "ых"
    return f"{_feminine(number)} {'целая' if _plural(number) == 0 else 'целых'} {_feminine(part)} {unit}"


def _feminine(number: int) -> str:
    words = _words(number)
    for masculine, feminine in (("один", "одна"), ("два", "две")):
        if words.split()[-1] == masculine:
            return words[: -len(masculine)] + feminine
    return words


def _plural(number: int) -> int:
    """0 after 1, 21, 31; 1 after 2 to 4, 22 to 24; 2 after all others."""
    if number % 10 == 1 and number % 100 != 11:
        return 0
    return 1 if 2 <= number % 10 <= 4 and not 12 <= number % 100 <= 14 else 2


def _integer(digits: str) -> int:
    return int(re.sub(r"\D", "", digits)[:_MAX_DIGITS])


def _cardinal(digits: str) -> str:
    plain = re.sub(r"\D", "", digits)
    if len(plain) > _MAX_DIGITS or (len(plain) > 1 and plain.startswith("0")):
        return " ".join(_words(int(digit)) for digit in plain)
    return _words(int(plain))


@lru_cache(maxsize=4096)
def _words(number: int) -> str:
    return number_words(number, "cardinal", "ru")

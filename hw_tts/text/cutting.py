"""Texts of any length in pieces that are said one after another."""

import re

from hw_tts.text.cleaning import ABBREVIATIONS

_END = re.compile(r"(?<=[.!?\u2026])[\"'\u201d\u2019\u00bb)\]]*\s+|\n\s*\n")
# Behind a stop that ends no sentence: an abbreviation or an initial.
_NO_END = re.compile(rf"\b(?:{'|'.join(ABBREVIATIONS)}|[^\W\d_])\.$", re.IGNORECASE)
_CLAUSE = re.compile(r"(?<=[,;:\u2014\u2013])\s+")
_SPACE = re.compile(r"\s+")


def sentences(text: str) -> list[str]:
    """The sentences of a text, in order, with their punctuation; a blank line ends one too."""
    found, start = [], 0
    for match in _END.finditer(text):
        before = text[start : match.start()]
        if "\n\n" not in match[0] and _NO_END.search(before):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    return [piece for piece in (*found, text[start:].strip()) if piece]


def halves(text: str) -> list[str]:
    """Two pieces of a sentence that is too long: cut at the clause, else the space, else the letter in the middle."""
    middle = len(text) / 2
    for pattern in (_CLAUSE, _SPACE):
        places = [match.span() for match in pattern.finditer(text) if match.start() > 0 and match.end() < len(text)]
        if places:
            end, start = min(places, key=lambda span: abs(span[0] - middle))
            return [text[:end], text[start:]]
    return [text[: int(middle)], text[int(middle) :]] if len(text) > 1 else [text]

"""Named ways to write a text before it is compared: the same for the reference and the hypothesis."""

import hashlib
import inspect
import sys
import unicodedata
from collections.abc import Callable
from typing import Any, Literal

NormalizerName = Literal["none", "lower", "letters"]
# Raised whenever one of them changes what it does.
VERSION = 1

# The straight apostrophe and those that typesetting, keyboards and transcriptions put in its place.
APOSTROPHES = "'\u2018\u2019\u201b\u02bc\u02b9\u2032\u00b4`\uff07"


def normalizer(kind: NormalizerName) -> Callable[[str], str]:
    """The function that both sides go through; no model's vocabulary is used, so no word of the reference is lost.

    ``none`` makes every stretch of white space one space; ``lower`` also composes Unicode (NFC) and lowers the case;
    ``letters`` also leaves only letters, their marks, digits and apostrophes, which are made plain.
    """

    def normalize(text: str) -> str:
        if kind != "none":
            text = unicodedata.normalize("NFC", text).lower()
        if kind == "letters":
            text = "".join(map(_letter, text))
        return " ".join(text.split())

    return normalize


def identity(kind: NormalizerName) -> dict[str, Any]:
    """What a report says of the normalizer that its figures were made with: name, version, a digest of this module."""
    source = f"{kind} {inspect.getsource(sys.modules[__name__])}"
    return {"name": kind, "version": VERSION, "sha256": hashlib.sha256(source.encode()).hexdigest()}


def _letter(character: str) -> str:
    if character in APOSTROPHES:
        return "'"
    return character if unicodedata.category(character)[0] in "LMN" else " "

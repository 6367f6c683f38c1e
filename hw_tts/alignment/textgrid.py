"""Reads Praat's TextGrids, long and short, as the Montreal Forced Aligner and others write them."""

import codecs
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw_base.errors import DataError
from hw_base.texts.alignments import SILENCE, check_phones
from hw_tts.alignment.intervals import fill_gaps

# What aligners write where nothing is spoken: all become one symbol.
SILENCES = frozenset({"", "sil", "sp", "spn", "<eps>", "<sil>", "<p:>", "#", "_"})

_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
# A string, with "" for a quotation mark in it; a comment; or a word, which is a value if it is a number or a flag.
_VALUE = re.compile(r'"((?:[^"]|"")*)"|(!.*)|("|[^\s"]+)')
# The short format was once named in the first line; Praat still reads that.
_FILE_TYPES = ("ooTextFile", "ooTextFile short")
_INTERVALS, _POINTS = "IntervalTier", "TextTier"


@dataclass(frozen=True)
class Tier:
    """One row of intervals.

    Attributes:
        name: of the tier.
        intervals: label, start and end in seconds; points have the same start and end.
    """

    name: str
    intervals: list[tuple[str, float, float]]


@dataclass(frozen=True)
class TextGrid:
    """A file's tiers.

    Attributes:
        start: in seconds.
        end: in seconds.
        tiers: in the file's order.
    """

    start: float
    end: float
    tiers: list[Tier]


def phones_from_textgrid(path: str | Path, tier: str = "phones", silence: str = SILENCE) -> list[list[Any]]:
    """One tier as an alignment that tiles the utterance.

    Pauses, however they are marked, and stretches without an interval become ``silence``; neighboring ones become one.

    Args:
        path: of the TextGrid.
        tier: its name; upper and lower case are the same, and ``speaker - phones`` is also found by ``phones``.
        silence: the symbol of pauses.

    Returns:
        phones: ``[[symbol, start_s, end_s], ...]`` from 0 to the file's end.

    Raises:
        DataError: the file cannot be read, has no such tier or several, or intervals overlap.
    """
    grid = read_textgrid(path)
    chosen = _choose(grid, tier, path)
    labels = (
        (silence if label.strip().lower() in SILENCES else label.strip(), a, b) for label, a, b in chosen.intervals
    )
    phones: list[list[Any]] = []
    for symbol, start, end in fill_gaps(labels, grid.end, silence):
        if phones and symbol == silence == phones[-1][0]:
            phones[-1][2] = end
        else:
            phones.append([symbol, start, end])
    try:
        check_phones(phones, Path(path).stem)
    except DataError as error:
        raise DataError(f"{path}: tier {chosen.name!r}: {error}") from None
    return phones


def read_textgrid(path: str | Path) -> TextGrid:
    """Read a TextGrid in UTF-8 or UTF-16.

    Raises:
        DataError: missing, not a TextGrid, cut off or damaged; the message names file and line.
    """
    values = _Values(path, _text(path))
    if values.string() not in _FILE_TYPES or values.string() != "TextGrid":
        raise DataError(f"{path}: not a TextGrid: it does not begin with the lines of one")
    start, end = values.number(), values.number()
    tiers = [_read_tier(values) for _ in range(values.count())] if values.flag() else []
    return TextGrid(start, end, tiers)


def _read_tier(values: "_Values") -> Tier:
    kind = values.string()
    if kind not in (_INTERVALS, _POINTS):
        raise values.fault(f"expected a tier ({_INTERVALS!r} or {_POINTS!r}), found {kind!r}")
    name = values.string()
    values.number(), values.number()
    intervals = []
    for _ in range(values.count()):
        start = values.number()
        end = values.number() if kind == _INTERVALS else start
        if end < start:
            raise values.fault(f"tier {name!r}: an interval ends at {end:g} s, before its start at {start:g} s")
        intervals.append((values.string(), start, end))
    return Tier(name, intervals)


def _choose(grid: TextGrid, name: str, path: str | Path) -> Tier:
    wanted = name.lower()
    found = [t for t in grid.tiers if t.name.lower() == wanted]
    found = found or [t for t in grid.tiers if t.name.lower().endswith(f" {wanted}")]
    if len(found) == 1:
        return found[0]
    names = ", ".join(repr(t.name) for t in grid.tiers) or "none"
    raise DataError(f"{path}: {'several tiers' if found else 'no tier'} named {name!r}; it has {names}")


def _text(path: str | Path) -> str:
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text in UTF-8, or in UTF-16 with a byte order mark") from None


class _Values:
    """The values of a file in their order; both formats have the same ones, the long one names them besides."""

    def __init__(self, path: str | Path, text: str) -> None:
        self._path = path
        self._line = 1
        self._values = self._read(text)

    def _read(self, text: str) -> Iterator[str | float]:
        line, position = 1, 0
        for match in _VALUE.finditer(text):
            line += text.count("\n", position, match.start())
            self._line, position = line, match.start()
            quoted, _, word = match.groups()
            if quoted is not None:
                yield '"' + quoted.replace('""', '"')
            elif word == '"':
                raise self.fault("a quotation mark that is not closed")
            elif word is not None and word.startswith("<"):
                yield word
            elif word is not None and (number := _number(word)) is not None:
                yield number

    def fault(self, what: str) -> DataError:
        return DataError(f"{self._path}: line {self._line}: {what}")

    def _next(self, expected: str) -> str | float:
        try:
            return next(self._values)
        except StopIteration:
            raise self.fault(f"the file ends where {expected} should be") from None

    def string(self) -> str:
        value = self._next("a string")
        if not isinstance(value, str) or not value.startswith('"'):
            raise self.fault(f"expected a string in quotation marks, found {value}")
        return value[1:]

    def number(self) -> float:
        value = self._next("a number")
        if isinstance(value, str):
            raise self.fault(f"expected a number, found {value}")
        return value

    def count(self) -> int:
        value = self.number()
        if value < 0 or not value.is_integer():
            raise self.fault(f"expected a count, found {value:g}")
        return int(value)

    def flag(self) -> bool:
        value = self._next("<exists>")
        if value not in ("<exists>", "<absent>"):
            raise self.fault(f"expected <exists>, found {value}")
        return value == "<exists>"


def _number(word: str) -> float | None:
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None

"""The ARPA text format of back-off n-gram models: strict reading, exact writing."""

import gzip
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from hw_base.errors import DataError

SENTENCE_START, SENTENCE_END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL_WORDS = (SENTENCE_START, SENTENCE_END, UNKNOWN)
# What KenLM gives to unknown words when the file has no <unk>.
_MISSING_UNKNOWN_LOG10 = -100.0
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Grams:
    """All n-grams of one order.

    Attributes:
        words: word ids, (N, order), int32.
        log10_prob: (N,), float64.
        log10_backoff: (N,), float64; zero for the highest order.
    """

    words: np.ndarray
    log10_prob: np.ndarray
    log10_backoff: np.ndarray


@dataclass(frozen=True)
class Arpa:
    """A back-off model as it stands in a file: ``grams[n - 1]`` holds the n-grams of order n."""

    vocabulary: list[str]
    grams: list[Grams]

    @property
    def order(self) -> int:
        return len(self.grams)


class _Lines:
    """Non-empty lines of an open file with the number of the last one, for messages."""

    def __init__(self, path: Path, file: "BinaryIO | gzip.GzipFile") -> None:
        self.path, self.number = path, 0
        self._lines = self._read(file)

    def _read(self, file: "BinaryIO | gzip.GzipFile") -> Iterator[bytes]:
        for line in file:
            self.number += 1
            line = line.strip(b" \t\r\n")
            if line:
                yield line

    def next(self) -> bytes:
        line = next(self._lines, None)
        if line is None:
            raise DataError(f"{self.path}: the ARPA file ends before \\end\\ (truncated?)")
        return line

    def error(self, message: str) -> DataError:
        return DataError(f"{self.path}, line {self.number}: {message}")


def read_arpa(path: "str | Path") -> Arpa:
    r"""Read a model, gzipped or not, whatever its name.

    Raises:
        DataError: missing file, not ARPA, counts that do not hold, a word that no unigram introduces, a probability
            above 1 or a number that is not finite.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            zipped = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if zipped else open(path, "rb") as file:
            return _read(_Lines(path, file))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot read the language model: {error}") from error


def _read(lines: _Lines) -> Arpa:
    first = lines.next()
    while first != b"\\data\\":
        if lines.number > 1000:
            raise lines.error("no \\data\\ section: not an ARPA language model")
        first = lines.next()
    counts: list[int] = []
    line = lines.next()
    while match := re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line):
        if int(match[1]) != len(counts) + 1:
            raise lines.error(f"expected the count of {len(counts) + 1}-grams, found {line.decode(errors='replace')!r}")
        counts.append(int(match[2]))
        line = lines.next()
    if not counts:
        raise lines.error("the \\data\\ section names no n-gram counts")
    ids: dict[bytes, int] = {}
    grams = []
    for order, count in enumerate(counts, start=1):
        if line != b"\\%d-grams:" % order:
            raise lines.error(f"expected \\{order}-grams:, found {line.decode(errors='replace')!r}")
        grams.append(_read_section(lines, order, count, ids, highest=order == len(counts)))
        line = lines.next()
    if line != b"\\end\\":
        raise lines.error(f"expected \\end\\, found {line.decode(errors='replace')!r}")
    return _with_unknown(Arpa([word.decode("utf-8", errors="replace") for word in ids], grams))


def _read_section(lines: _Lines, order: int, count: int, ids: dict[bytes, int], highest: bool) -> Grams:
    words = np.zeros((count, order), np.int32)
    log10_prob, log10_backoff = np.zeros(count), np.zeros(count)
    for row in range(count):
        fields = lines.next().split()
        if len(fields) != order + 1 and (highest or len(fields) != order + 2):
            found = b" ".join(fields).decode(errors="replace")
            raise lines.error(f"expected a {order}-gram (row {row + 1} of {count}), found {found!r}")
        try:
            log10_prob[row] = probability = float(fields[0])
            if len(fields) == order + 2:
                log10_backoff[row] = float(fields[-1])
            if not (math.isfinite(probability) and probability <= 0 and math.isfinite(log10_backoff[row])):
                found = b" ".join(fields).decode(errors="replace")
                raise lines.error(f"a log10 probability must be finite and not above 0, a back-off finite: {found!r}")
            if order == 1:
                words[row] = ids.setdefault(fields[1], len(ids))
            else:
                words[row] = [ids[word] for word in fields[1 : order + 1]]
        except KeyError as error:
            unknown = error.args[0].decode(errors="replace")
            raise lines.error(f"the word {unknown!r} is not among the unigrams") from error
        except ValueError as error:
            raise lines.error(f"not a number: {error}") from error
    if order == 1 and len(ids) != count:
        raise lines.error(f"{count} unigrams, but only {len(ids)} different words")
    return Grams(words, log10_prob, log10_backoff)


def _with_unknown(arpa: Arpa) -> Arpa:
    """The model with an unknown word, in whatever case the file spells it."""
    spelled = [word.lower() if word.lower() in SPECIAL_WORDS else word for word in arpa.vocabulary]
    if UNKNOWN in spelled:
        return Arpa(spelled, arpa.grams)
    unigrams = arpa.grams[0]
    extended = Grams(
        np.append(unigrams.words, np.array([[len(spelled)]], np.int32), axis=0),
        np.append(unigrams.log10_prob, _MISSING_UNKNOWN_LOG10),
        np.append(unigrams.log10_backoff, 0.0),
    )
    return Arpa([*spelled, UNKNOWN], [extended, *arpa.grams[1:]])


def write_arpa(arpa: Arpa, path: "str | Path") -> None:
    """Write a model so that KenLM, SRILM and :func:`read_arpa` read it."""
    words = arpa.vocabulary
    with open(path, "w", encoding="utf-8") as file:
        file.write("\\data\\\n" + "".join(f"ngram {n}={len(g.words)}\n" for n, g in enumerate(arpa.grams, start=1)))
        for order, grams in enumerate(arpa.grams, start=1):
            file.write(f"\n\\{order}-grams:\n")
            rows = zip(grams.words.tolist(), grams.log10_prob.tolist(), grams.log10_backoff.tolist(), strict=True)
            for ids, log10_prob, log10_backoff in rows:
                backoff = f"\t{log10_backoff:.8g}" if order < arpa.order else ""
                file.write(f"{log10_prob:.8g}\t{' '.join(words[i] for i in ids)}{backoff}\n")
        file.write("\n\\end\\\n")

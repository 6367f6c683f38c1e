"""The words a decoder may write, as a prefix tree over tokens."""

import functools
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hw_asr.decoders.scoring.tokens import SEPARATOR, Tokens
from hw_asr.language_models.pair_table import build_pair_table
from hw_base.errors import ConfigError, DataError
from hw_base.text import BaseTextEncoder
from hw_base.texts.files import read_lines

# Trees with fewer (node, token) cells than this are stored as a matrix (64 MiB), larger ones hashed.
_DENSE_CELLS = 1 << 24
ROOT = 0
# Refused words that a message names.
_NAMED = 5
# What is given in advance for a word is no more than this, so that a step of linear probabilities stays finite.
_MOST_AHEAD = 300.0

log = logging.getLogger(__name__)


class Lexicon(NamedTuple):
    """Prefix tree; node 0 is the root, the last node stands for every word that the tree lacks.

    Attributes:
        child: child of (node, token) or -1, (n_nodes, V), int32; (0, V) if hashed.
        keys: ``node * V + token``, cuckoo-hashed, (size,), int64; used if ``child`` has no rows.
        values: child at each place of ``keys``, (size,), int32.
        word: language-model word that ends at a node or -1, (n_nodes,), int32.
        ahead: the best bonus of the words below a node, natural log, given in advance and taken back at its end,
            (n_nodes,), float64; 0 at the root.
        branches: bit ``token % 64`` is set if there may be a child by that token, (n_nodes,), int64; small enough for a
            processor's cache, which the others are not.
    """

    child: np.ndarray
    keys: np.ndarray
    values: np.ndarray
    word: np.ndarray
    ahead: np.ndarray
    branches: np.ndarray


def read_words(path: "str | Path") -> list[str]:
    """The first column of a word list: one word a line, anything after a blank or tab is left out.

    Raises:
        DataError: no such file, or no word in it.
    """
    words = [line.split()[0] for line in read_lines(path) if line.strip()]
    if not words:
        raise DataError(f"{path}: the lexicon has no words")
    return words


class Speller:
    """Writes words in the text encoder's own case, and counts those that it cannot write.

    A word is not bent into another one: a character that the vocabulary lacks (``4th``), or punctuation that it takes
    for a word boundary (``u.s.``, ``x-ray``), makes the word impossible.

    Attributes:
        refused: words that could not be written.
    """

    def __init__(self, text_encoder: BaseTextEncoder) -> None:
        self.text_encoder = text_encoder
        self.refused: list[str] = []
        letters = (text_encoder.decode([i]).strip() for i in range(1, len(text_encoder)))
        self._frame = next(letter for letter in letters if letter)

    def form(self, word: str) -> str | None:
        """How a word is written; None where it cannot be."""
        form = self.text_encoder.normalize(word)
        whole = form and not any(map(str.isspace, form))
        if whole and form != word:  # between letters, punctuation at its ends would leave a blank
            framed = self.text_encoder.normalize(f"{self._frame}{word}{self._frame}")
            whole = framed == f"{self._frame}{form}{self._frame}"
        if not whole or self.text_encoder.unknown(word):
            self.refused.append(word)
            return None
        return form

    def report(self, source: str, total: int) -> None:
        """Say once how many words of a file cannot be written."""
        if self.refused:
            named = ", ".join(map(repr, self.refused[:_NAMED])) + (", ..." if len(self.refused) > _NAMED else "")
            say_once(
                f"{source}: {len(self.refused)} of {total} words cannot be spelled with this vocabulary and are never "
                f"written: {named}"
            )


@functools.lru_cache(maxsize=1000)
def say_once(message: str) -> None:
    """Log a line the first time only: a search over weights builds the same decoder many times."""
    log.info("%s", message)


def spell(
    words: Collection[str], text_encoder: BaseTextEncoder, tokens: Tokens, source: str | None = None
) -> dict[str, tuple[int, ...]]:
    """Tokens of each word in the encoder's own case, without separators; words that cannot be spelled are left out.

    Args:
        words: of a lexicon or a language model.
        text_encoder: vocabulary.
        tokens: the same, as decoders see it.
        source: the words' file, for a line about those that are left out; None says nothing.
    """
    spelled, speller = {}, Speller(text_encoder)
    for word in words:
        form = speller.form(word)
        if form is not None:
            ids = tuple(i for i in text_encoder.encode(form) if tokens.kinds[i] != SEPARATOR)
            if ids:
                spelled[form] = ids
    if source is not None:
        speller.report(source, len(words))
    return spelled


def build_lexicon(spellings: Mapping[tuple[int, ...], int], bonus: np.ndarray, unknown: int, n_tokens: int) -> Lexicon:
    """Args:
        spellings: token ids of a word -> its language-model word.
        bonus: expected bonus of each language-model word, natural log.
        unknown: the language-model word that stands for all others.
        n_tokens: size of the vocabulary, blank included.

    Raises:
        ConfigError: there is no word.
    """
    if not spellings:
        raise ConfigError("lexicon: the text encoder can spell none of its words")
    children: dict[int, int] = {}
    word, parent = [-1], [ROOT]
    for ids, target in spellings.items():
        node = ROOT
        for token in ids:
            above, node = node, children.setdefault(node * n_tokens + token, len(word))
            if node == len(word):
                word.append(-1)
                parent.append(above)
        word[node] = target
    n_nodes = len(word) + 1
    keys, values = np.fromiter(children, np.int64), np.fromiter(children.values(), np.int32)
    words = np.array([*word, -1], np.int32)
    ahead = np.append(_ahead(word, parent, bonus), bonus[unknown])
    branches = np.zeros(n_nodes, np.int64)
    np.bitwise_or.at(branches, keys // n_tokens, np.left_shift(1, keys % n_tokens % 64))
    if n_nodes * n_tokens <= _DENSE_CELLS:
        child = np.full((n_nodes, n_tokens), -1, np.int32)
        child.reshape(-1)[keys] = values
        return Lexicon(child, np.full(1, -1, np.int64), np.zeros(1, np.int32), words, ahead, branches)
    table, place = build_pair_table(keys)
    placed = np.zeros(len(table.keys), np.int32)
    placed[place] = values
    return Lexicon(np.zeros((0, n_tokens), np.int32), table.keys, placed, words, ahead, branches)


def _ahead(word: list[int], parent: list[int], bonus: np.ndarray) -> np.ndarray:
    """The largest bonus at or below each node but the root."""
    best = [float(bonus[w]) if w >= 0 else -np.inf for w in word]
    for node in range(len(word) - 1, 0, -1):  # children come after their parents
        best[parent[node]] = max(best[parent[node]], best[node])
    best[ROOT] = 0.0
    return np.array(best).clip(-_MOST_AHEAD, _MOST_AHEAD)

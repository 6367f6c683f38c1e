"""The words a decoder may write, as a prefix tree over tokens."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hw_asr.decoders.scoring.tokens import SEPARATOR, Tokens
from hw_asr.language_models.pair_table import build_pair_table
from hw_base.errors import ConfigError, DataError
from hw_base.text import BaseTextEncoder

# Trees with fewer (node, token) cells than this are stored as a matrix (64 MiB), larger ones hashed.
_DENSE_CELLS = 1 << 24
ROOT = 0


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
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot read the lexicon: {error}") from error
    words = [line.split()[0] for line in lines if line.strip()]
    if not words:
        raise DataError(f"{path}: the lexicon has no words")
    return words


def spell(words: Iterable[str], text_encoder: BaseTextEncoder, tokens: Tokens) -> dict[str, tuple[int, ...]]:
    """Tokens of each word in the encoder's own case, without separators; words that cannot be spelled are left out."""
    spelled = {}
    for word in words:
        form = text_encoder.normalize(word)
        if form and not text_encoder.unknown(form):
            ids = tuple(i for i in text_encoder.encode(form) if tokens.kinds[i] != SEPARATOR)
            if ids:
                spelled[form] = ids
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
    return np.array(best)

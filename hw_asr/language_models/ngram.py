"""A back-off n-gram model as flat arrays: equal to KenLM, shared by tensors and compiled loops."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hw_asr.language_models.arpa import SENTENCE_END, SENTENCE_START, UNKNOWN, Arpa, Grams
from hw_asr.language_models.pair_table import build_pair_table, places
from hw_base.errors import DataError

LN10 = math.log(10.0)
# Contexts whose rows over the vocabulary fit in here are stored as dense rows: one read instead of a search.
_DENSE_ENTRIES = 2_000_000


class NgramArrays(NamedTuple):
    """The model; a state is a context that the model knows, 0 the empty one, and shorter contexts have smaller numbers.

    To score word w in state s: ``levels`` times look for the pair (s, w) among ``keys`` and, where it is missing, add
    ``backoff[s]`` and go to ``backoff_state[s]``; then the row of s is dense. States with a dense row back off to
    themselves at no cost, so that the loop has a fixed length.

    Attributes:
        dense_logp: natural log, (n_dense, W), float32.
        dense_next: state after the word, (n_dense, W), int32.
        keys: ``s * W + w``, cuckoo-hashed, (size,), int64.
        logp: (size,), float32.
        next_state: (size,), int32.
        backoff: (n_states,), float32.
        backoff_state: (n_states,), int32.
    """

    dense_logp: np.ndarray
    dense_next: np.ndarray
    keys: np.ndarray
    logp: np.ndarray
    next_state: np.ndarray
    backoff: np.ndarray
    backoff_state: np.ndarray


@dataclass(frozen=True)
class NgramModel:
    """Back-off n-gram language model.

    Attributes:
        order: the n of the longest n-grams.
        vocabulary: words, special ones included, in the order of their ids.
        levels: how many searches may come before a dense row.
        start_state: the state after ``<s>`` (the empty one if the model has no ``<s>``).
        arrays: the probabilities.
    """

    order: int
    vocabulary: list[str]
    levels: int
    start_state: int
    arrays: NgramArrays

    @property
    def end_id(self) -> int:
        """Id of ``</s>``, -1 if the model lacks it."""
        return self.vocabulary.index(SENTENCE_END) if SENTENCE_END in self.vocabulary else -1

    @property
    def unknown_id(self) -> int:
        return self.vocabulary.index(UNKNOWN)

    def word_ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.vocabulary)}

    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self.arrays)

    def score_word(self, state: int, word: int) -> tuple[float, int]:
        """Natural-log probability of one word after ``state``, and the state after it."""
        a = self.arrays
        total, n_words = 0.0, a.dense_logp.shape[1]
        for _ in range(self.levels):
            key = np.array([state * n_words + word])
            for place in places(key, len(a.keys)):
                if a.keys[place[0]] == key[0]:
                    return total + float(a.logp[place[0]]), int(a.next_state[place[0]])
            total += float(a.backoff[state])
            state = int(a.backoff_state[state])
        return total + float(a.dense_logp[state, word]), int(a.dense_next[state, word])

    def score_ids(self, words: Sequence[int], end: bool = True) -> float:
        """Natural-log probability of a sentence from ``<s>`` on, with ``</s>`` where asked for and known."""
        total, state = 0.0, self.start_state
        for word in words:
            logp, state = self.score_word(state, word)
            total += logp
        return total + (self.score_word(state, self.end_id)[0] if end and self.end_id >= 0 else 0.0)

    def score(self, sentence: str, end: bool = True) -> float:
        """:meth:`score_ids` of blank-separated words; unknown ones count as ``<unk>``."""
        ids = self.word_ids()
        return self.score_ids([ids.get(word, self.unknown_id) for word in sentence.split()], end)

    @classmethod
    def from_arpa(cls, arpa: Arpa) -> "NgramModel":
        """Lay the n-grams of a file out in arrays.

        Raises:
            DataError: an n-gram whose context the model lacks, or a number that is not finite.
        """
        for order, grams in enumerate(arpa.grams, start=1):
            if not (np.isfinite(grams.log10_prob).all() and np.isfinite(grams.log10_backoff).all()):
                raise DataError(f"language model: a {order}-gram has a probability or back-off that is not finite")
        return _Builder(arpa).build()


class _Builder:
    """Numbers the contexts of a model order by order and sorts its n-grams into rows and the hash table."""

    def __init__(self, arpa: Arpa) -> None:
        self.arpa, self.n_words = arpa, len(arpa.vocabulary)
        lengths = [1] + [len(grams.words) for grams in arpa.grams[:-1]]
        self.first_state = np.cumsum([0, *lengths])  # of each context length, and one past the last
        self.children: list[tuple[np.ndarray, np.ndarray]] = []  # of each context length: sorted keys, their states
        for length, grams in enumerate(arpa.grams[:-1], start=1):
            keys = self.key(self.states(grams.words[:, :-1], length), grams.words[:, -1])
            order = np.argsort(keys)
            self.children.append((keys[order], self.first_state[length] + order))

    def key(self, state: np.ndarray, word: np.ndarray) -> np.ndarray:
        key: np.ndarray = state.astype(np.int64) * self.n_words + word
        return key

    def exact(self, words: np.ndarray) -> np.ndarray:
        """State of each context (N, length), -1 where the model lacks it."""
        state = np.zeros(len(words), np.int64)
        for position in range(words.shape[1]):
            keys, states = self.children[position]
            if not len(keys):
                return np.full(len(words), -1, np.int64)
            wanted = self.key(state, words[:, position])
            at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
            state = np.where((keys[at] == wanted) & (state >= 0), states[at], -1)
        return state

    def states(self, contexts: np.ndarray, order: int) -> np.ndarray:
        state = self.exact(contexts)
        if (state < 0).any():
            row = int(np.flatnonzero(state < 0)[0])
            context = " ".join(self.arpa.vocabulary[i] for i in contexts[row])
            raise DataError(
                f"language model: a {order}-gram continues {context!r}, which is not a {order - 1}-gram of it"
            )
        return state

    def longest(self, words: np.ndarray) -> np.ndarray:
        """State of the longest suffix of each word sequence (N, length) that is a context of the model."""
        state = np.full(len(words), -1, np.int64)
        for skipped in range(words.shape[1] + 1):
            state = np.where(state < 0, self.exact(words[:, skipped:]), state)
        return state

    def build(self) -> NgramModel:
        arpa, n_words = self.arpa, self.n_words
        n_states = int(self.first_state[-1])
        backoff, backoff_state = np.zeros(n_states), np.zeros(n_states, np.int64)
        for length, grams in enumerate(arpa.grams[:-1], start=1):
            own = slice(self.first_state[length], self.first_state[length + 1])
            backoff[own], backoff_state[own] = grams.log10_backoff * LN10, self.longest(grams.words[:, 1:])
        n_lengths = sum(1 for n in self.first_state[1:] if n * n_words <= _DENSE_ENTRIES) or 1
        dense_logp, dense_next = self.dense_rows(n_lengths, backoff, backoff_state)
        dense = np.arange(len(dense_logp))
        backoff[dense], backoff_state[dense] = 0.0, dense
        hashed = self.hash_table(range(n_lengths + 1, arpa.order + 1))
        arrays = NgramArrays(
            dense_logp, dense_next, *hashed, backoff.astype(np.float32), backoff_state.astype(np.int32)
        )
        start = 0
        if SENTENCE_START in arpa.vocabulary and arpa.order > 1:
            start = int(self.longest(np.array([[arpa.vocabulary.index(SENTENCE_START)]]))[0])
        return NgramModel(arpa.order, arpa.vocabulary, arpa.order - n_lengths, start, arrays)

    def hash_table(self, orders: range) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Keys, log-probabilities and next states of all n-grams of the given orders."""
        parts = [self.arcs(order) for order in orders]
        keys = np.concatenate([np.zeros(0, np.int64), *(self.key(source, word) for source, word, _, _ in parts)])
        table, place = build_pair_table(keys)
        logp, following = np.zeros(len(table.keys), np.float32), np.zeros(len(table.keys), np.int32)
        if parts:
            logp[place] = np.concatenate([part[2] for part in parts])
            following[place] = np.concatenate([part[3] for part in parts])
        return table.keys, logp, following

    def arcs(self, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The n-grams of one order as transitions: state, word, natural-log probability, next state."""
        grams: Grams = self.arpa.grams[order - 1]
        if order < self.arpa.order:
            following = self.first_state[order] + np.arange(len(grams.words))
        else:
            following = self.longest(grams.words[:, 1:])
        return self.states(grams.words[:, :-1], order), grams.words[:, -1], grams.log10_prob * LN10, following

    def dense_rows(
        self, n_lengths: int, backoff: np.ndarray, backoff_state: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows over the vocabulary of all contexts shorter than ``n_lengths``, backed off to the end."""
        rows = int(self.first_state[n_lengths])
        logp, following = np.zeros((rows, self.n_words)), np.zeros((rows, self.n_words), np.int32)
        for length in range(n_lengths):
            own = np.arange(self.first_state[length], self.first_state[length + 1])
            if length:
                shorter = backoff_state[own]
                logp[own], following[own] = backoff[own, None] + logp[shorter], following[shorter]
            source, word, value, target = self.arcs(length + 1)
            logp[source, word], following[source, word] = value, target
        return logp.astype(np.float32), following

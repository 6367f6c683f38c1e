"""Interpolated modified Kneser-Ney estimation (Chen and Goodman 1999, "An empirical study of smoothing techniques for
language modeling", section 3), with the conventions of KenLM's lmplz (Heafield et al. 2013, "Scalable modified
Kneser-Ney language model estimation"): adjusted counts, a uniform share for the unknown word, pruning after counting.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hw_asr.language_models.arpa import SENTENCE_END, SENTENCE_START, SPECIAL_WORDS, UNKNOWN, Arpa, Grams
from hw_base.errors import ConfigError, DataError

# lmplz --discount_fallback: for orders whose counts of counts allow no estimate, as in very small or repetitive texts.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
_UNKNOWN_ID, _START_ID, _END_ID = 0, 1, 2


@dataclass
class _Order:
    """The n-grams of one order, as the text has them.

    Attributes:
        prefix, suffix: the n-gram without its last and without its first word, as indices into the order below, (N,).
        last: last word, (N,).
        raw: occurrences, (N,).
        count: adjusted counts, (N,): of words that come before, where that is not the sentence start; raw at the top.
    """

    prefix: np.ndarray
    suffix: np.ndarray
    last: np.ndarray
    raw: np.ndarray
    count: np.ndarray


def estimate(
    sentences: Iterable[Sequence[str]], order: int, prune: Sequence[int] = (), fallback: bool = True
) -> tuple[Arpa, list[tuple[float, float, float]]]:
    """Estimate a model.

    Args:
        sentences: each a sequence of words; empty ones are left out.
        order: n of the longest n-grams.
        prune: for each order the largest number of occurrences that is left out; the last one holds for all higher
            orders. It may not fall, and is 0 for unigrams.
        fallback: whether fixed discounts may stand in where none can be estimated.

    Returns:
        The model, and the three discounts of each order.

    Raises:
        ConfigError: thresholds that cannot be.
        DataError: no words, or a special word among them; discounts that cannot be estimated without ``fallback``.
    """
    thresholds = _thresholds(prune, order)
    words, vocabulary = _flatten(sentences)
    orders = _count(words, order, len(vocabulary))
    discounts = [_discounts(one, n, fallback) for n, one in enumerate(orders, start=1)]
    return _interpolate(orders, discounts, thresholds, vocabulary), discounts


def _thresholds(prune: Sequence[int], order: int) -> list[int]:
    given = [*prune]
    if len(given) > order:
        raise ConfigError(f"prune: {len(given)} thresholds for a model of order {order}")
    if given and given[0] != 0:
        raise ConfigError(f"prune: the threshold of unigrams is 0, found {given[0]}")
    if given != sorted(given):
        raise ConfigError(f"prune: thresholds may not fall from one order to the next, found {given}")
    return given + [given[-1] if given else 0] * (order - len(given))


def _flatten(sentences: Iterable[Sequence[str]]) -> tuple[np.ndarray, list[str]]:
    """All sentences in a row, each between start and end, as ids; the words of the ids."""
    ids = {UNKNOWN: _UNKNOWN_ID, SENTENCE_START: _START_ID, SENTENCE_END: _END_ID}
    row: list[int] = []
    for number, sentence in enumerate(sentences, start=1):
        if not sentence:
            continue
        special = [word for word in sentence if word in SPECIAL_WORDS]
        if special:
            raise DataError(f"text, line {number}: {special[0]} is a mark of the model and cannot be a word")
        row.append(_START_ID)
        row.extend([ids.setdefault(word, len(ids)) for word in sentence])
        row.append(_END_ID)
    if not row:
        raise DataError("text: there are no words to estimate a model from")
    return np.array(row, np.int64), list(ids)


def _count(words: np.ndarray, order: int, n_words: int) -> list[_Order]:
    ends = np.flatnonzero(words == _END_ID)
    left = (
        ends[np.searchsorted(ends, np.arange(len(words)))] - np.arange(len(words)) + 1
    )  # words up to the sentence end
    raw = np.bincount(words, minlength=n_words)
    nothing = np.zeros(n_words, np.int64)
    orders = [_Order(nothing, nothing, np.arange(n_words), raw, raw)]
    gram = words.copy()  # the n-gram that begins at each position
    starts_sentence = np.arange(n_words) == _START_ID
    for n in range(2, order + 1):
        at = np.flatnonzero(left >= n)
        keys, first, inverse, raw = np.unique(
            gram[at] * n_words + words[at + n - 1], return_index=True, return_inverse=True, return_counts=True
        )
        one = _Order(keys // n_words, gram[at[first] + 1], keys % n_words, raw, raw)
        below = orders[-1]
        before = np.bincount(one.suffix, minlength=len(below.raw))
        below.count = np.where(starts_sentence, below.raw, before)
        starts_sentence = starts_sentence[one.prefix]
        orders.append(one)
        gram[at] = inverse
    orders[0].count = np.where(np.arange(n_words) == _START_ID, 0, orders[0].count)
    return orders


def _discounts(one: _Order, order: int, fallback: bool) -> tuple[float, float, float]:
    """Chen and Goodman's equation 26: what is taken off counts of one, two and more."""
    n1, n2, n3, n4 = (int((one.count == k).sum()) for k in (1, 2, 3, 4))
    if min(n1, n2, n3) > 0:
        y = n1 / (n1 + 2 * n2)
        values = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 <= value <= k for k, value in enumerate(values, start=1)):
            return values
    if not fallback:
        raise DataError(f"text: too small or too repetitive for discounts of order {order}; allow the fallback ones")
    return FALLBACK_DISCOUNTS


def _interpolate(
    orders: list[_Order], discounts: list[tuple[float, float, float]], thresholds: list[int], vocabulary: list[str]
) -> Arpa:
    n_words = len(vocabulary)
    probabilities: list[np.ndarray] = []
    backoffs: list[np.ndarray] = []  # of the n-grams of each order, as contexts; one element for the empty context
    kept: list[np.ndarray] = []
    for n, (one, discount, threshold) in enumerate(zip(orders, discounts, thresholds, strict=True)):
        keep = one.raw > threshold if n else np.ones(n_words, bool)
        n_contexts = len(orders[n - 1].raw) if n else 1
        taken = np.array([0.0, *discount])[np.minimum(one.count, 3)]
        total = np.bincount(one.prefix, one.count, n_contexts)
        # A pruned n-gram leaves all of its count to the shorter context.
        left_over = np.bincount(one.prefix, np.where(keep, taken, one.count), n_contexts)
        backoff = np.divide(left_over, total, out=np.ones(n_contexts), where=total > 0)
        lower = probabilities[-1][one.suffix] if n else np.full(n_words, 1.0 / (n_words - 1))
        seen = (one.count - taken) / np.maximum(total[one.prefix], 1)
        probabilities.append(seen + backoff[one.prefix] * lower)
        backoffs.append(backoff)
        kept.append(keep)
    probabilities[0][_START_ID] = 1.0  # never predicted; what lmplz writes
    backoffs = [*backoffs[1:], np.ones(len(orders[-1].raw))]
    grams = []
    words = np.zeros((1, 0), np.int64)
    for one, probability, backoff, keep in zip(orders, probabilities, backoffs, kept, strict=True):
        words = np.concatenate([words[one.prefix], one.last[:, None]], axis=1)
        with np.errstate(divide="ignore"):
            log10_backoff = np.maximum(np.log10(backoff), -99.0)
        grams.append(Grams(words[keep].astype(np.int32), np.log10(probability[keep]), log10_backoff[keep]))
    return Arpa(vocabulary, grams)

"""KenLM's probing hash tables back as n-grams.

A table maps a 64-bit hash of an n-gram to its values, and the hash cannot be inverted. But it is built word by word
from the last one backwards, and everything that an n-gram may consist of is known: both its first n - 1 words and its
last n - 1 words are in the table of the order below. So all pairs of such that overlap are hashed and looked up.
"""

import logging

import numpy as np

from hw_asr.language_models.arpa import Arpa, Grams
from hw_asr.language_models.kenlm.header import REST_PROBING, KenlmBinary
from hw_base.errors import DataError

log = logging.getLogger(__name__)

_HASH_MULTIPLIER, _WORD_MULTIPLIER = np.uint64(8978948897894561157), np.uint64(17894857484156487943)
_VOCABULARY_ENTRY = 12
# About a minute; the result is kept in the cache.
_MOST_CANDIDATES = 2_000_000_000
_CHUNK = 1 << 22


def read(binary: KenlmBinary, unigrams_only: bool = False) -> Arpa:
    """The n-grams of the tables; those that KenLM added, so that every end of an n-gram is one, included.

    Args:
        binary: the file.
        unigrams_only: leave the others out; they need no search then.

    Raises:
        DataError: a damaged file, or so many words that to try their combinations would take too long.
    """
    rest = [("rest", "<f4")] if binary.layout == REST_PROBING else []
    unigram = np.dtype([("prob", "<f4"), ("backoff", "<f4"), *rest])
    middle = np.dtype([("key", "<u8"), ("prob", "<f4"), ("backoff", "<f4"), *rest])
    longest = np.dtype([("key", "<u8"), ("prob", "<f4")])
    offset = binary.header_size + 8 + _VOCABULARY_ENTRY * _buckets(binary, binary.counts[0])
    unigrams = binary.take(offset, unigram, binary.counts[0] + 1)
    offset += unigrams.nbytes
    tables: list[np.ndarray] = []
    for count in binary.counts[1:]:
        dtype = middle if len(tables) < len(binary.counts) - 2 else longest
        table = binary.take(offset, dtype, _buckets(binary, count))
        offset += table.nbytes
        tables.append(np.sort(table[table["key"] != 0], order="key"))
    words = binary.words(offset)
    unigrams = unigrams[: len(words)]
    grams = [_grams(np.arange(len(words), dtype=np.int32)[:, None], unigrams)]
    keys = np.arange(len(words), dtype=np.uint64)
    for table in [] if unigrams_only else tables:
        rows = _find(binary, grams[-1].words, keys, table["key"])
        grams.append(_grams(rows, table))
        keys = table["key"]
    return Arpa(words, grams)


def _buckets(binary: KenlmBinary, entries: int) -> int:
    return max(entries + 1, int(np.float32(binary.multiplier) * np.float32(entries)))


def _grams(words: np.ndarray, table: np.ndarray) -> Grams:
    # The sign of a probability's logarithm only says whether a longer n-gram ends in it.
    prob = -np.abs(table["prob"].astype(np.float64))
    backoff = table["backoff"].astype(np.float64) if "backoff" in (table.dtype.names or ()) else np.zeros(len(table))
    return Grams(words, prob, backoff)


def _find(binary: KenlmBinary, shorter: np.ndarray, keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The words of each key of ``wanted``, sorted; ``shorter`` (N, n - 1) are the n-grams below with their ``keys``."""
    order = shorter.shape[1] + 1
    heads, tails = _numbers(shorter[:, :-1], shorter[:, 1:])
    by_tail = np.argsort(tails, kind="stable")
    n_before = np.bincount(tails, minlength=int(heads.max()) + 1)
    first_before = np.cumsum(n_before) - n_before
    ends = np.cumsum(n_before[heads])  # of the candidates that end in each of the shorter n-grams
    if ends[-1] > _MOST_CANDIDATES:
        raise DataError(
            f"{binary.path}: a probing table keeps hashes of n-grams only, and with {binary.counts[0]} words too "
            f"many {order}-grams are possible to find them again; give the ARPA file or a trie (build_binary trie), "
            "or use FlashlightBeamSearch"
        )
    log.info("%s: trying %d %d-grams", binary.path, ends[-1], order)
    prefix_term = (shorter[by_tail, 0].astype(np.uint64) + np.uint64(1)) * _WORD_MULTIPLIER
    suffix_term = keys * _HASH_MULTIPLIER
    bits = min(26, len(wanted).bit_length() + 5)
    shift = np.uint64(64 - bits)
    may_be = np.zeros(1 << bits, np.bool_)
    may_be[wanted >> shift] = True
    words, found, start = np.zeros((len(wanted), order), np.int32), np.zeros(len(wanted), np.bool_), 0
    while start < len(keys):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        n_prefixes = n_before[heads[start:stop]]
        suffix = np.repeat(np.arange(start, stop), n_prefixes)
        prefix = np.arange(len(suffix)) + np.repeat(
            first_before[heads[start:stop]] - ends[start:stop] + n_prefixes, n_prefixes
        )
        prefix += done
        candidate = suffix_term[suffix] ^ prefix_term[prefix]
        likely = np.flatnonzero(may_be[candidate >> shift])
        place = np.minimum(np.searchsorted(wanted, candidate[likely]), len(wanted) - 1)
        hit = wanted[place] == candidate[likely]
        likely, place = likely[hit], place[hit]
        words[place, 0] = shorter[by_tail[prefix[likely]], 0]
        words[place, 1:] = shorter[suffix[likely]]
        found[place] = True
        start = stop
    if not found.all():
        raise DataError(f"{binary.path}: {int((~found).sum())} {order}-grams lack their shorter n-grams: damaged?")
    return words


def _numbers(heads: np.ndarray, tails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A number for each row, equal rows the same, from 0."""
    if not heads.shape[1]:
        return np.zeros(len(heads), np.int64), np.zeros(len(tails), np.int64)
    _, inverse = np.unique(np.concatenate([heads, tails]), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    return inverse[: len(heads)], inverse[len(heads) :]

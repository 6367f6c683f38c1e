"""KenLM's tries, plain, quantized, or with compressed pointers, back as n-grams.

The last word of an n-gram is looked up first, so each level prepends a word: the children of an entry are n-grams that
it is the end of. Entries of a level are bit-packed records (word, values, where the children begin).
"""

import numpy as np

from hw_asr.language_models.arpa import Arpa, Grams
from hw_asr.language_models.kenlm.header import ARRAY_TRIE, QUANTIZED_ARRAY_TRIE, QUANTIZED_TRIE, KenlmBinary
from hw_base.errors import DataError

_UNIGRAM = np.dtype([("prob", "<f4"), ("backoff", "<f4"), ("children", "<u8")])
_PROB_BITS, _BACKOFF_BITS = 31, 32  # unquantized; the sign of a probability's logarithm is known


class _Quantization:
    """Tables of values, two for each order but the first and the last, which has one."""

    def __init__(self, binary: KenlmBinary, offset: int) -> None:
        version, self.prob_bits, self.backoff_bits = binary.take(offset, "u1", 3).tolist()
        if version != 2:
            raise DataError(f"{binary.path}: quantization version 2 can be read, found {version}")
        self.tables: list[np.ndarray] = []
        offset += 8
        for _ in binary.counts[2:]:
            for bits in (self.prob_bits, self.backoff_bits):
                self.tables.append(binary.take(offset, "<f4", 1 << bits))
                offset += 4 << bits
        self.tables.append(binary.take(offset, "<f4", 1 << self.prob_bits))
        self.end = offset + (4 << self.prob_bits)


class _Pointers:
    """Where the children begin: the lower bits inline, the upper ones by a table of where they change."""

    def __init__(self, binary: KenlmBinary, offset: int, entries: int, most: int) -> None:
        self.inline_bits, self.changes, self.end = most.bit_length(), None, offset
        if binary.layout not in (ARRAY_TRIE, QUANTIZED_ARRAY_TRIE):
            return
        version, most_bits = binary.take(offset, "u1", 2).tolist()
        if version != 0:
            raise DataError(f"{binary.path}: pointer compression version 0 can be read, found {version}")
        bits = most.bit_length()
        cost = [(most >> (bits - cut)) * 64 - (entries + 1) * cut for cut in range(min(bits, most_bits) + 1)]
        self.inline_bits = bits - cost.index(min(cost))
        size = (most >> self.inline_bits) + 1
        self.changes = binary.take(-(-offset // 8) * 8 + 8, "<u8", size)
        self.end = offset + 8 * (1 + size) + 7

    def read(self, inline: np.ndarray) -> np.ndarray:
        if self.changes is None:
            return inline
        upper = np.searchsorted(self.changes, np.arange(len(inline)).astype(np.uint64), side="right") - 1
        combined: np.ndarray = (upper << self.inline_bits) | inline
        return combined


def read(binary: KenlmBinary) -> Arpa:
    """The n-grams of a trie; those that KenLM added, so that every end of an n-gram is one, included.

    Raises:
        DataError: a damaged file.
    """
    (n_words,) = binary.take(binary.header_size, "<u8", 1).tolist()
    if n_words + 1 != binary.counts[0]:
        raise DataError(f"{binary.path}: {n_words + 1} words, but {binary.counts[0]} unigrams")
    offset = binary.header_size + 8 * (1 + n_words)
    offset += 8  # of <unk>, for which the file keeps a place
    quantized = binary.layout in (QUANTIZED_TRIE, QUANTIZED_ARRAY_TRIE)
    quantization = _Quantization(binary, offset) if quantized else None
    offset = quantization.end if quantization else offset
    unigrams = binary.take(offset, _UNIGRAM, binary.counts[0] + 2)
    offset += unigrams.nbytes
    words = np.arange(binary.counts[0], dtype=np.int32)[:, None]
    children = unigrams["children"][: binary.counts[0] + 1].astype(np.int64)
    grams = [Grams(words, unigrams["prob"][:-2].astype(np.float64), unigrams["backoff"][:-2].astype(np.float64))]
    for level in range(1, len(binary.counts)):
        found, children, offset = _level(binary, level, offset, (grams[-1].words, children), quantization)
        grams.append(found)
    return Arpa(binary.words(offset), grams)


def _level(
    binary: KenlmBinary,
    level: int,
    offset: int,
    parents: tuple[np.ndarray, np.ndarray],
    quantization: "_Quantization | None",
) -> tuple[Grams, np.ndarray, int]:
    """The n-grams of one order, where the children of each begin and the last one's end, and where the level ends."""
    count, last = binary.counts[level], level == len(binary.counts) - 1
    word_bits = binary.counts[0].bit_length()
    prob_bits = quantization.prob_bits if quantization else _PROB_BITS
    backoff_bits = 0 if last else quantization.backoff_bits if quantization else _BACKOFF_BITS
    pointers = _Pointers(binary, offset, count, binary.counts[level + 1]) if not last else None
    pointer_bits, offset = (pointers.inline_bits, pointers.end) if pointers else (0, offset)
    total = word_bits + prob_bits + backoff_bits + pointer_bits
    size = ((1 + count) * total + 7) // 8 + 8
    packed = _Bits(binary.take(offset, "u1", size), total, count)
    word = packed.read(0, word_bits)[:count]
    if quantization:
        prob_at, backoff_at = word_bits + backoff_bits, word_bits
        prob = quantization.tables[2 * level - 2][packed.read(prob_at, prob_bits)]
        backoff = quantization.tables[2 * level - 1][packed.read(backoff_at, backoff_bits)] if not last else prob * 0
    else:
        prob = -packed.read(word_bits, prob_bits).astype(np.uint32).view(np.float32)
        backoff = packed.read(word_bits + prob_bits, backoff_bits).astype(np.uint32).view(np.float32)
    children = np.zeros(0, np.int64)
    if pointers:
        children = pointers.read(packed.read(total - pointer_bits, pointer_bits))
    longer, starts = parents
    n_children = np.diff(starts)
    if (n_children < 0).any() or starts[-1] != count or (word >= binary.counts[0]).any():
        raise DataError(f"{binary.path}: the {level + 1}-grams of the KenLM binary are damaged")
    words = np.concatenate([word[:, None], np.repeat(longer, n_children, axis=0)], axis=1).astype(np.int32)
    return Grams(words, prob[:count].astype(np.float64), backoff[:count].astype(np.float64)), children, offset + size


class _Bits:
    """Records of ``total`` bits; one more than ``count``, which holds where the last one's children end."""

    def __init__(self, content: np.ndarray, total: int, count: int) -> None:
        self.content, self.start = content, np.arange(count + 1, dtype=np.int64) * total

    def read(self, position: int, n_bits: int) -> np.ndarray:
        """The bits from ``position`` on of each record, (count + 1,), int64; at most 57."""
        bit = self.start + position
        value = np.zeros(len(bit), np.uint64)
        for byte in range(8):
            value |= self.content[(bit >> 3) + byte].astype(np.uint64) << np.uint64(8 * byte)
        kept: np.ndarray = (value >> (bit & 7).astype(np.uint64)) & np.uint64((1 << n_bits) - 1)
        return kept.astype(np.int64)

"""KenLM's binary models (format version 5): the header and the vocabulary.

A file is a header, a table of word hashes, the n-grams in one of six layouts, and the words themselves at the end, each
with a zero byte. All numbers are little-endian.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hw_asr.language_models.arpa import SPECIAL_WORDS
from hw_base.errors import DataError

MAGIC = b"mmap lm http://kheafield.com/code"
_SANITY = np.dtype([("magic", "S56"), ("floats", "<f4", 3), ("words", "<u4", 2), ("padding", "<u4"), ("one", "<u8")])
_PARAMETERS = np.dtype(
    {
        "names": ["order", "multiplier", "layout", "has_words", "search_version"],
        "formats": ["u1", "<f4", "<u4", "u1", "<u4"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,
    }
)
PROBING, REST_PROBING, TRIE, QUANTIZED_TRIE, ARRAY_TRIE, QUANTIZED_ARRAY_TRIE = range(6)


@dataclass(frozen=True)
class KenlmBinary:
    """An open file.

    Attributes:
        path: for messages.
        content: the whole file, (bytes,), uint8.
        layout: `PROBING` to `QUANTIZED_ARRAY_TRIE`.
        multiplier: buckets of a hash table for each of its entries.
        counts: n-grams of each order, as the file counts them.
        header_size: where the vocabulary begins.
    """

    path: Path
    content: np.ndarray
    layout: int
    multiplier: np.float32
    counts: list[int]
    header_size: int

    def take(self, offset: int, dtype: "np.dtype | str", count: int) -> np.ndarray:
        """``count`` values from a place on.

        Raises:
            DataError: the file is shorter.
        """
        dtype = np.dtype(dtype)
        if offset + count * dtype.itemsize > len(self.content):
            raise DataError(f"{self.path}: the KenLM binary is cut short: {len(self.content)} bytes are not all of it")
        return np.frombuffer(self.content, dtype, count, offset)

    def words(self, offset: int) -> list[str]:
        """The vocabulary in the order of its ids; special words as ARPA files write them.

        Raises:
            DataError: there are other bytes at its place, or too few words.
        """
        strings = self.content[offset:].tobytes()
        words = strings.decode("utf-8", errors="replace").split("\0")[:-1]
        if not words or words[0] != "<unk>":
            raise DataError(f"{self.path}: the words are not where the header puts them; build the binary again")
        if len(words) not in (self.counts[0], self.counts[0] + 1):  # one more if the ARPA file had no <unk>
            raise DataError(f"{self.path}: {len(words)} words, but {self.counts[0]} unigrams: is the file cut short?")
        return [word.lower() if word.lower() in SPECIAL_WORDS else word for word in words]


def open_binary(path: Path) -> KenlmBinary:
    """Read a file and check its header.

    Raises:
        DataError: another version or kind of machine, a damaged file, one without words.
    """
    content = np.fromfile(path, np.uint8)
    if len(content) < _SANITY.itemsize + _PARAMETERS.itemsize:
        raise DataError(f"{path}: the KenLM binary is cut short: {len(content)} bytes are not all of it")
    sanity = np.frombuffer(content, _SANITY, 1)[0]
    if not bytes(sanity["magic"]).startswith(MAGIC + b" format version 5\n"):
        found = bytes(sanity["magic"])[len(MAGIC) :].strip().decode(errors="replace")
        raise DataError(f"{path}: a KenLM binary of 'format version 5' can be read, found {found!r}")
    if sanity["floats"].tolist() != [0.0, 1.0, -0.5] or sanity["one"] != 1:
        raise DataError(f"{path}: a KenLM binary of another kind of machine; build it again, or give the ARPA file")
    fixed = np.frombuffer(content, _PARAMETERS, 1, _SANITY.itemsize)[0]
    order, layout = int(fixed["order"]), int(fixed["layout"])
    if layout > QUANTIZED_ARRAY_TRIE or fixed["search_version"] != (layout >= TRIE):
        raise DataError(f"{path}: unknown layout {layout}, version {fixed['search_version']}, of a KenLM binary")
    if not fixed["has_words"]:
        raise DataError(f"{path}: this KenLM binary was built without its words: give the ARPA file it was made of")
    if len(content) < _SANITY.itemsize + _PARAMETERS.itemsize + 8 * order or order < 2:
        raise DataError(f"{path}: a KenLM binary with a damaged header: order {order}")
    counts = np.frombuffer(content, "<u8", order, _SANITY.itemsize + _PARAMETERS.itemsize).tolist()
    header_size = -(-(_SANITY.itemsize + _PARAMETERS.itemsize + 8 * order) // 8) * 8
    return KenlmBinary(path, content, layout, fixed["multiplier"], counts, header_size)

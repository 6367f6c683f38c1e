"""An immutable hash table of (int, int) pairs that tensors and compiled loops probe with two reads, hit or miss."""

from typing import NamedTuple

import numpy as np

# Two odd multipliers; the high bits of key * multiplier choose the two places a key may stand at.
FIRST_MULTIPLIER = -7046029254386353131
SECOND_MULTIPLIER = -4417276706812531889
EMPTY = -1
_LOAD = 0.42
_MOST_ROUNDS = 400


class PairTable(NamedTuple):
    """Cuckoo hash table without values; the place of a key indexes arrays of values beside it.

    Attributes:
        keys: (size,), int64, ``EMPTY`` where nothing stands.
    """

    keys: np.ndarray


def places(keys: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The two places of each key in a table of ``size``."""
    with np.errstate(over="ignore"):
        first, second = keys * np.int64(FIRST_MULTIPLIER), keys * np.int64(SECOND_MULTIPLIER)
    mask = np.int64(0x7FFFFFFF)
    return (((first >> 33) & mask) * size) >> 31, (((second >> 33) & mask) * size) >> 31


def build_pair_table(keys: np.ndarray) -> tuple[PairTable, np.ndarray]:
    """Place distinct non-negative keys (Pagh and Rodler 2004, all homeless keys moving at once).

    Returns:
        The table and the place of each key, (N,), int64.
    """
    size = max(4, int(len(keys) / _LOAD))
    while True:
        owner = _settle(keys, size)
        if owner is not None:
            break
        size += size // 8 + 1
    taken = np.flatnonzero(owner >= 0)
    table = np.full(size, EMPTY, np.int64)
    table[taken] = keys[owner[taken]]
    place = np.empty(len(keys), np.int64)
    place[owner[taken]] = taken
    return PairTable(table), place


def _settle(keys: np.ndarray, size: int) -> "np.ndarray | None":
    """For each place the index of its key or -1; None when the keys keep pushing each other out."""
    choices = np.stack(places(keys, size))
    choice = np.zeros(len(keys), np.int8)
    owner = np.full(size, -1, np.int64)
    homeless = np.arange(len(keys))
    for _ in range(_MOST_ROUNDS):
        if not len(homeless):
            return owner
        wanted = choices[choice[homeless], homeless]
        evicted = np.unique(owner[wanted])
        owner[wanted] = homeless
        lost = homeless[owner[wanted] != homeless]
        homeless = np.concatenate([lost, evicted[evicted >= 0]])
        choice[homeless] ^= 1
    return None

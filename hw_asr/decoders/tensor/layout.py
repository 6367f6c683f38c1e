"""Tables of the tensor engine: where the candidates of a frame stand, and what becomes of those that are chosen."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.decoders.tensor.frames import HASH_MULTIPLIER


class Layout(NamedTuple):
    """A row of candidates: a place for what is thrown away, then N of them.

    These are the K prefixes as they are, then their extensions by one token after the other.

    Attributes:
        n_tokens: C.
        n_wide: tokens that extend all K slots.
        height: slots that the other tokens extend, the first ones.
        place: where the extension of a slot, 0 for none, by a token stands, ``[token * (K + 1) + slot]``.
        source: slot, from 0, that each candidate comes from, (N,).
        column: token that it is extended by, C for none, (N,).
        moves: for each candidate where its parent, the hash of its source and its last token are found in the flat
            ``Beam.ids``; its column; and what the hash is multiplied by, (1, 5, N).
    """

    n_tokens: int
    n_wide: int
    height: int
    place: Tensor
    source: Tensor
    column: Tensor
    moves: Tensor


def lay_out(K: int, C: int, ordered: bool, device: torch.device) -> Layout:
    """Lay out the candidates of K slots and C tokens.

    Where candidates are the products of a slot's and a token's probability, and both come in order, few of the products
    can be among the K best. Count from 0: tokens up to j extend slots up to i to (i + 1)(j + 1) prefixes. Each becomes
    at least as probable as the last of them, (i, j) itself, but for one of each slot, whose last token does not count
    in full where it repeats. So at least (i + 1) j - 1 are better than (i, j), and if i + 1 > K / j it is not needed.

    Args:
        ordered: whether that holds; with bonuses it does not, and all tokens extend all slots.
    """
    n_wide = min(C, max(1, round(math.sqrt(C)))) if ordered else C
    heights = [K] * n_wide + [K // n_wide] * (C - n_wide)
    place = torch.zeros(C + 1, K + 1, dtype=torch.int64)
    start = 1 + K
    for token, height in enumerate(heights):
        place[token, 1 : height + 1] = torch.arange(start, start + height)
        start += height
    source = torch.cat([torch.arange(height) for height in [K, *heights]])
    column = torch.tensor([C, *range(C)]).repeat_interleave(torch.tensor([K, *heights]))
    stays, identity, zero = column == C, source + 1 + (K + 1), torch.tensor(2 * (K + 1))
    moves = [
        torch.where(stays, source + 1, identity),  # the parent of a new prefix is its source
        identity,
        torch.where(stays, identity + (K + 1), zero),
        column,
        torch.where(stays, 1, HASH_MULTIPLIER),
    ]
    tables = (place.view(-1), source, column, torch.stack(moves)[None])
    return Layout(C, n_wide, heights[-1], *(table.to(device) for table in tables))

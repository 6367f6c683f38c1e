"""The beams of a batch as tensors: how the K prefixes of each utterance change by a frame.

For tensors this small the time goes into the number of operations, slicing included, on a CPU and more so on a GPU. So
whatever does not depend on the frame is computed once into tables, results are written into buffers whose slices are
made once (`Beam._name_parts`), and one gather moves all rows of a kind.
"""

import math

import torch
from torch import Tensor

from hw_asr.decoders.scoring.options import SearchOptions
from hw_asr.decoders.tensor.bonus import BeamBonus, Ending, TensorBonus
from hw_asr.decoders.tensor.frames import Frame
from hw_asr.decoders.tensor.layout import Layout

_TINY = 1e-300
# Hashes: of the empty text, of a slot without a prefix, of the parent of either.
_EMPTY_TEXT, _NO_PREFIX, _NO_PARENT = 1, 0, -1
# For so few prefixes comparing all pairs is quicker than sorting; for more it would take too much memory.
_FEW = 128


class Beam:
    """The prefixes of all utterances, best first; slot 0 stands for "no prefix" and never changes.

    Attributes:
        mass: probability of each prefix, bonuses included, relative to the utterance's best; the part of it from
            alignments that end in a blank; from those that end in the last token, (B, 3, K + 1), float64.
        ids: hash of the parent, hash, last token, (B, 3, K + 1), int64.
        candidates: rows of ``mass``, laid out as in :class:`Layout`, (B, 3, 1 + N), float64.
        bonus: bonuses of the prefixes, None where there are none.
    """

    def __init__(self, options: SearchOptions, bonus: TensorBonus, layout: Layout, B: int) -> None:
        K, device = options.beam_size, layout.place.device
        self.shape, self.keep_above = (B, layout.n_tokens, K), math.exp(-options.beam_threshold)
        self.bonus = None if bonus.is_none else BeamBonus(bonus, self.shape, device)
        self.layout = layout
        self.dead = torch.tensor([_NO_PARENT, _NO_PREFIX], device=device)[:, None]
        self.slots = torch.arange(1, K + 1, device=device).repeat(B, 2, 1)  # of prefixes, and of their parents

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(B, *shape, dtype=dtype, device=device)

        self.mass, self.ids = zeros(3, K + 1, dtype=torch.float64), zeros(3, K + 1)
        self.mass[:, :2, 1] = 1.0
        self.ids[:, :2] = self.dead
        self.ids[:, 1, 1] = _EMPTY_TEXT
        self.candidates = zeros(3, 1 + len(self.layout.source), dtype=torch.float64)
        # For what a step works out on its way.
        self.same, self.numbers = zeros(K, K if K <= _FEW else 0, dtype=torch.float32), torch.arange(1.0, K + 1)
        self.numbers = self.numbers.to(device)
        self.repeats, self.places = zeros(1, K), zeros(2, K)
        self.best, self.chosen = zeros(1, K, dtype=torch.float64), zeros(1, K)
        self.rows, self.moves = zeros(3, K, dtype=torch.float64), zeros(5, K)
        self.moved, self.new = zeros(3, K), zeros(2, K)
        self._name_parts()

    def _name_parts(self) -> None:
        """Parts of the buffers; those that hold one number for each prefix are (B, 1, K)."""
        B, C, K = self.shape
        n_wide, height, prefixes = self.layout.n_wide, self.layout.height, slice(1, K + 1)
        self.masses, self.hashes = self.mass[:, :, prefixes], self.ids[:, :2, prefixes]
        self.total, self.after_blank, self.after_token = self.masses.chunk(3, dim=1)
        self.parent_hash, self.own_hash = self.hashes.chunk(2, dim=1)
        self.parent_hash_down = self.parent_hash.transpose(1, 2)
        self.last, self.last_or_none = self.ids[:, 2:, prefixes], self.ids[:, 2:]
        self.flat_mass, self.flat_ids = self.mass.view(B, 1, -1), self.ids.view(B, 1, -1)
        self.value, self.blanks, self.tokens = self.candidates.chunk(3, dim=1)
        self.kept_blank, self.kept_token = self.blanks[:, :, prefixes], self.tokens[:, :, prefixes]
        middle = 1 + K + n_wide * K
        self.wide = self.tokens[:, 0, 1 + K : middle].view(B, n_wide, K)
        self.narrow = self.tokens[:, 0, middle:].view(B, C - n_wide, height)
        self.first = self.total[:, :, :height]
        self.parent, (self.again, self.taken) = self.slots[:, 1:], self.places.chunk(2, dim=1)
        self.place_table = self.layout.place.expand(B, 2, -1)
        # Bits of non-negative numbers are in their order, and integers are compared without a look for NaN.
        self.value_bits, self.best_bits = self.value.view(torch.int64)[:, :, 1:], self.best.view(torch.int64)
        self.most, self.some = self.best[:, :, :1], self.candidates[:, :, 1:]
        self.chosen_rows, self.chosen_moves = self.chosen.expand(B, 3, K), self.chosen.expand(B, 5, K)
        self.move_table = self.layout.moves.expand(B, -1, -1)
        self.origins, self.columns = self.moves[:, :3].view(B, 1, -1), self.moves[:, 3:4].expand(B, 2, K)
        self.multiplier, self.flat_moved = self.moves[:, 4:], self.moved.view(B, 1, -1)
        self.moved_hashes, self.source_hash, self.moved_last = self.moved[:, :2], self.moved[:, 1:2], self.moved[:, 2:]
        self.new_token, self.new_hash = self.new.chunk(2, dim=1)

    def step(self, frame: Frame, chosen: Tensor, scale: Tensor) -> None:
        """Take in a frame; write which candidates were chosen, (B, 1, K), and what was divided by, (B, 1, 1)."""
        torch.where(frame.after_gap, self.total, self.after_blank, out=self.after_blank)
        of_last = frame.log_probs.gather(2, self.last).double().exp()
        arriving = self._from_parents()
        at = torch.add(self.slots, frame.rank.gather(2, self.last).long(), alpha=self.shape[2] + 1)
        torch.gather(self.place_table, 2, at, out=self.places)
        torch.mul(self.total, frame.wide, out=self.wide)
        torch.mul(self.first, frame.narrow, out=self.narrow)
        # After a blank only, the last token can come again.
        self.tokens.scatter_(2, self.again, self.after_blank * of_last)
        if self.bonus is not None:
            self.wide.mul_(self.bonus.extend(frame.unit, frame.token[:, 0, :-1, None]))
        # What a parent would bring is with the prefix that is there already.
        self.tokens.scatter_(2, self.taken, 0.0)
        torch.addcmul(arriving, self.after_token, frame.no_gap, out=self.kept_token).mul_(of_last)
        torch.mul(self.total, frame.blank, out=self.kept_blank)
        torch.add(self.blanks, self.tokens, out=self.value)
        torch.topk(self.value_bits, self.shape[2], out=(self.best_bits, self.chosen))
        self._move(frame.token, scale)
        chosen.copy_(self.chosen)
        if self.bonus is not None:
            self.bonus.move(self.chosen, self.layout.source.take(self.chosen))

    def _from_parents(self) -> Tensor:
        """Find the slots of parents; the probability that each brings into its child, (B, 1, K), 0 where it is gone."""
        K = self.shape[2]
        if K <= _FEW:
            torch.eq(self.parent_hash_down, self.own_hash, out=self.same)
            self.parent.copy_((self.same @ self.numbers)[:, None])  # the sum of one number or none
        else:
            ordered, order = self.own_hash.sort(dim=2)
            at = torch.searchsorted(ordered, self.parent_hash.contiguous()).clamp_(max=K - 1)
            self.parent.copy_((order.gather(2, at) + 1) * (ordered.gather(2, at) == self.parent_hash))
        torch.eq(self.last_or_none.gather(2, self.parent), self.last, out=self.repeats)
        arriving = self.flat_mass.gather(2, torch.add(self.parent, self.repeats, alpha=K + 1))
        return arriving if self.bonus is None else arriving.mul_(self.bonus.factor)

    def _move(self, token: Tensor, scale: Tensor) -> None:
        """Put the chosen candidates into the slots, empty those that fell behind, and divide by the best."""
        torch.gather(self.move_table, 2, self.chosen_moves, out=self.moves)
        torch.gather(self.flat_ids, 2, self.origins, out=self.flat_moved)
        torch.gather(token, 2, self.columns, out=self.new)
        torch.addcmul(self.new_hash, self.source_hash, self.multiplier, out=self.source_hash)
        torch.add(self.moved_last, self.new_token, out=self.last)
        alive = self.best > self.most * self.keep_above
        torch.where(alive, self.moved_hashes, self.dead, out=self.hashes)
        torch.clamp(self.most, min=_TINY, out=scale)  # where nothing is left
        torch.gather(self.some, 2, self.chosen_rows, out=self.rows)
        torch.mul(self.rows, alive / scale, out=self.masses)

    def ending(self) -> Ending:
        """The prefixes as they are."""
        total = self.total[:, 0]
        if self.bonus is not None:
            return self.bonus.ending(total)
        nothing = torch.zeros_like(total)
        return Ending(total, nothing, nothing, nothing.long(), nothing.long())

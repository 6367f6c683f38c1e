"""Posteriors as the tensor engines read them: sure blanks skipped, the tokens of every frame picked before the loop."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from hw_asr.decoders.scoring.options import SearchOptions

HASH_MULTIPLIER, TOKEN_MULTIPLIER, HASH_STEP = 6364136223846793005, 2654435761, 1442695040888963407


class Frame(NamedTuple):
    """What one step reads, as in :class:`Frames`, without T'; ``wide`` and ``narrow`` are the two parts of ``best``."""

    log_probs: Tensor
    blank: Tensor
    wide: Tensor
    narrow: Tensor
    token: Tensor
    unit: Tensor
    rank: Tensor
    after_gap: Tensor
    no_gap: Tensor


class Frames(NamedTuple):
    """The frames that are kept, padded with certain blanks.

    Attributes:
        log_probs: (T', B, 1, V), float32.
        blank: probability, (T', B, 1, 1), float64.
        best: probabilities of the C most probable tokens, best first, (T', B, C, 1), float64.
        token: their ids, and what they add to the hash of a prefix; then 0 for no token, (T', B, 2, C + 1), int64.
        unit: their language-model words, (T', B, C, 1), int64.
        rank: position of each token among these, C if it is none of them, (T', B, 1, V), int16.
        after_gap: whether blanks were skipped just before the frame, (T', B, 1, 1), bool.
        number: original number of each frame, (T', B), int64.
        n_kept: frames that are kept of each utterance, (B,), int64.
        skipped: log-probability of the skipped blanks, (B,), float64.
    """

    log_probs: Tensor
    blank: Tensor
    best: Tensor
    token: Tensor
    unit: Tensor
    rank: Tensor
    after_gap: Tensor
    number: Tensor
    n_kept: Tensor
    skipped: Tensor

    def steps(self, n_wide: int) -> Iterator[Frame]:
        """One frame after the other, the best tokens parted after the first ``n_wide``."""
        best = (self.best[:, :, :n_wide], self.best[:, :, n_wide:])
        no_gap = (~self.after_gap).double()
        parts = (self.log_probs, self.blank, *best, self.token, self.unit, self.rank, self.after_gap, no_gap)
        return map(Frame._make, zip(*(part.unbind(0) for part in parts), strict=True))


def prepare_frames(log_probs: Tensor, lengths: Tensor, options: SearchOptions, unit_of_token: Tensor) -> Frames:
    """Move the frames that are kept to the front of each utterance and pick the tokens of each.

    Args:
        log_probs: natural log, (B, T, V), float32.
        lengths: (B,).
        options: limits of the search.
        unit_of_token: language-model word of each token, (V,), int64.
    """
    _, T, V = log_probs.shape
    valid = torch.arange(T, device=log_probs.device) < lengths[:, None]
    skip = (log_probs[:, :, 0] > math.log(options.blank_skip)) & valid
    keep = valid & ~skip
    # The only number that is read back before the last frame: how many frames the loop takes.
    order = torch.argsort(~keep, dim=1, stable=True)[:, : max(1, int(keep.sum(1).max()))]
    padded = ~keep.gather(1, order)
    kept = log_probs.gather(1, order[:, :, None].expand(-1, -1, V)).masked_fill(padded[:, :, None], -math.inf)
    kept[:, :, 0] = kept[:, :, 0].masked_fill(padded, 0.0)
    kept = kept.transpose(0, 1)[:, :, None].contiguous()
    best, best_id = kept[..., 1:].topk(min(options.tokens_per_frame, V - 1), dim=3)
    best_id += 1
    previous = torch.nn.functional.pad(order, (1, 0), value=-1)[:, :-1]
    return Frames(
        log_probs=kept,
        blank=kept[..., :1].double().exp(),
        best=best.double().exp().transpose(2, 3),
        token=torch.nn.functional.pad(torch.cat([best_id, best_id * TOKEN_MULTIPLIER + HASH_STEP], dim=2), (0, 1)),
        unit=unit_of_token[best_id].transpose(2, 3),
        rank=_ranks(best_id, V),
        after_gap=((order - previous > 1) & ~padded).T[:, :, None, None],
        number=order.T,
        n_kept=keep.sum(1),
        skipped=log_probs[:, :, 0].double().masked_fill(~skip, 0.0).sum(1),
    )


def _ranks(best_id: Tensor, V: int) -> Tensor:
    """Position of each of V tokens among those given, (..., C), or C."""
    C = best_id.shape[-1]
    rank = torch.full((*best_id.shape[:-1], V), C, dtype=torch.int16, device=best_id.device)
    return rank.scatter_(-1, best_id, torch.arange(C, dtype=torch.int16, device=best_id.device).expand(best_id.shape))

"""Consistency regularization of CTC."""

from typing import Any

import torch
from torch import Tensor, nn

from hw_base.errors import ConfigError
from hw_base.nn.layers import length_mask
from hw_base.nn.losses import SumAndCount
from hw_base.registry import LOSSES


class _SymmetricDivergence(torch.autograd.Function):
    """Half of ``sum_t KL(sg(q) || p) + KL(sg(p) || q)`` for each utterance, with its gradient in closed form.

    With z the logits of p, the gradient of KL(sg(q) || p) in z is p - q. Posteriors come as log softmax, whose own
    backward pass maps a gradient g of log p to g - p sum(g): g = -q / 2 gives (p - q) / 2, because q sums to 1. So two
    tensors are kept instead of the graph of the formula.
    """

    @staticmethod
    def forward(ctx: Any, log_p: Tensor, log_q: Tensor, mask: Tensor) -> Tensor:
        p, q = log_p.exp(), log_q.exp()
        ctx.save_for_backward(p, q, mask)
        return ((p - q) * (log_p - log_q)).sum(dim=-1).mul(mask).sum(dim=-1) / 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        p, q, mask = ctx.saved_tensors
        scale = -0.5 * (gradients[0][:, None] * mask)[..., None]
        return q * scale, p * scale, None


@LOSSES.register()
class ConsistencyLoss(nn.Module):
    """Agreement of the posteriors of two views of each utterance (CR-CTC, Yao et al. 2024, arXiv 2410.05101, eq. 2, 3).

    ``1/2 sum_t [KL(sg(b_t) || a_t) + KL(sg(a_t) || b_t)]`` over the frames of each utterance, where sg stops the
    gradient. The paper's weight beside CTC is 0.2. It goes with `ConsistencyTrainer`, which makes the views.

    Args:
        normalize_by_length: divide by the number of tokens, as `CTCLoss` does, so that the two keep their proportion.
    """

    def __init__(self, normalize_by_length: bool = True) -> None:
        super().__init__()
        self.normalize_by_length = normalize_by_length

    def forward(
        self, log_probs: Tensor, log_probs_length: Tensor, tokens_length: Tensor, n_views: int = 1, **batch: Any
    ) -> SumAndCount:
        """Mean over utterances.

        Args:
            log_probs (Tensor): natural log, normalized, (2 B, T, V): all first views, then all second ones.
            log_probs_length (Tensor): (2 B,), int64; equal for both views.
            tokens_length (Tensor): (2 B,), int64.
            n_views: 2.
            batch: not used.

        Raises:
            ConfigError: the batch has no two views of its utterances.
        """
        if n_views != 2:
            raise ConfigError(
                'ConsistencyLoss: the batch holds one view of each utterance; set trainer.type to "ConsistencyTrainer"'
            )
        first, second = log_probs.float().chunk(2)
        length = log_probs_length.to(first.device, non_blocking=True)[: len(first)]
        mask = length_mask(length, first.shape[1]).to(first.dtype)
        values: Tensor = _SymmetricDivergence.apply(first, second, mask)  # type: ignore[no-untyped-call]
        if self.normalize_by_length:
            tokens_length = tokens_length.to(first.device, non_blocking=True)
            values = values / tokens_length[: len(first)].clamp(min=1)
        return SumAndCount(values.sum(), values.new_full((), len(first)))

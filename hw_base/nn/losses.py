"""Means that stay exact when a batch is cut among processes, and helpers for masked losses."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class SumAndCount:
    """A mean kept as its sum and its count.

    Several processes divide by the count over all of them, an evaluation by the count of the whole split: neither is a
    mean of means.

    Attributes:
        total (Tensor): sum over the local batch, scalar, carries the gradient.
        count (Tensor): how many terms the sum has, scalar, no gradient.
    """

    total: Tensor
    count: Tensor


def as_sum_and_count(value: "Tensor | SumAndCount") -> SumAndCount:
    """A plain scalar counts as one term."""
    if isinstance(value, SumAndCount):
        return value
    return SumAndCount(value, torch.ones((), device=value.device))


def masked_mean(values: Tensor, mask: Tensor) -> SumAndCount:
    """Mean of ``values`` where ``mask`` is true.

    Args:
        values (Tensor): any shape.
        mask (Tensor): bool, broadcastable to ``values``.
    """
    mask = mask.expand_as(values)
    return SumAndCount(values.masked_fill(~mask, 0.0).sum(), mask.sum().to(values.dtype))

"""Means that stay exact when a batch is cut among processes, and helpers for masked losses."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mean:
    """A mean kept as its sum and its count.

    Several processes divide by the count over all of them, an evaluation by the count of the whole split: neither is a
    mean of means.

    Attributes:
        total (Tensor): sum over the local batch, scalar, carries the gradient.
        count (Tensor): how many terms the sum has, scalar, no gradient.
    """

    total: Tensor
    count: Tensor


def as_mean(value: "Tensor | Mean") -> Mean:
    """A plain scalar counts as one term."""
    if isinstance(value, Mean):
        return value
    return Mean(value, torch.ones((), device=value.device))


def masked_mean(values: Tensor, mask: Tensor) -> Mean:
    """Mean of ``values`` where ``mask`` is true.

    Args:
        values (Tensor): any shape.
        mask (Tensor): bool, broadcastable to ``values``.
    """
    mask = mask.expand_as(values)
    return Mean(values.masked_fill(~mask, 0.0).sum(), mask.sum().to(values.dtype))

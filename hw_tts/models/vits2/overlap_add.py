"""Transposed convolution to one channel as a plain one, which processors do several times faster."""

import torch
from torch import Tensor
from torch.nn import functional as F


def phases(filters: Tensor, stride: int) -> Tensor:
    """Filters as the weight that `overlap_add` needs.

    Args:
        filters (Tensor): (C, N).
        stride: samples between two places of a filter.

    Returns:
        Tensor: (stride, C, ceil(N / stride)).
    """
    padded = F.pad(filters, (0, -filters.shape[1] % stride))
    return padded.view(len(filters), -1, stride).flip(1).permute(2, 0, 1).contiguous()


def overlap_add(x: Tensor, weight: Tensor) -> Tensor:
    """Lay each value's filter at its place and sum: `torch.nn.functional.conv_transpose1d` with all its samples.

    Args:
        x (Tensor): (B, C, T).
        weight (Tensor): of `phases`.

    Returns:
        Tensor: (B, (T - 1) stride + N'), where N' is N raised to a multiple of the stride.
    """
    rows: Tensor = torch.conv1d(x, weight, padding=weight.shape[2] - 1)
    return rows.mT.flatten(1)

"""Positional encodings for any length and any width."""

import torch
from torch import Tensor, nn

from hw_base.nn.layers import sinusoids


class SinusoidalPositions(nn.Module):
    """Absolute positions 0, 1, ... added to the input.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (B, T, D) and its positions, summed."""
        return x + sinusoids(torch.arange(x.shape[1], device=x.device), self.width).to(x.dtype)


class RelativePositions(nn.Module):
    """Encodings of all offsets between a query and a key of one sequence (Dai et al. 2019, "Transformer-XL").

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """Encodings of the offsets ``T - 1, ..., 0, ..., -(T - 1)`` for ``x`` (B, T, D): (2 T - 1, D)."""
        last = x.shape[1] - 1
        return sinusoids(torch.arange(last, -last - 1, -1, device=x.device), self.width).to(x.dtype)

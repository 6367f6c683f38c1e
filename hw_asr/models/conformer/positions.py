"""Positional encodings for any length and any width."""

import math

import torch
from torch import Tensor, nn


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017, section 3.5).

    Args:
        positions (Tensor): (N,), of any sign.
        width: D; an odd one has one sine more than cosines.

    Returns:
        Tensor: ``sin(p / 10000 ** (2 i / D))`` at 2 i and the cosine at 2 i + 1, (N, D), float32.
    """
    even = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angles = positions.to(torch.float32)[:, None] * torch.exp(even * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


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


def relative_shift(scores: Tensor) -> Tensor:
    """From scores of offsets to scores of keys (Dai et al. 2019, appendix B), without a copy.

    Args:
        scores (Tensor): of each query for the offsets ``T - 1, ..., -(T - 1)``, contiguous, (B, H, T, 2 T - 1).

    Returns:
        Tensor: ``out[..., i, j] = scores[..., i, T - 1 - (i - j)]``, (B, H, T, T).
    """
    n_batch, n_heads, n_frames, n_offsets = scores.shape
    # A row further down starts one offset earlier: its step in memory is one shorter than a row.
    steps = (n_heads * n_frames * n_offsets, n_frames * n_offsets, max(n_offsets - 1, 1), 1)
    return scores.as_strided((n_batch, n_heads, n_frames, n_frames), steps, scores.storage_offset() + n_frames - 1)

"""Inverse short-time Fourier transform as one convolution, which never waits for the GPU."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class InverseSTFT(nn.Module):
    """What `torch.istft` computes with a Hann window and centered frames.

    Args:
        n_fft: size of the transform, and of the window.
        hop_length: between frames.
    """

    basis: Tensor
    squared_window: Tensor

    def __init__(self, n_fft: int, hop_length: int) -> None:
        super().__init__()
        self.n_fft, self.hop_length = n_fft, hop_length
        window = torch.hann_window(n_fft, dtype=torch.float64)
        angle = torch.arange(n_fft // 2 + 1).unsqueeze(1) * torch.arange(n_fft) * (2 * math.pi / n_fft)
        share = torch.full((n_fft // 2 + 1, 1), 2.0 / n_fft, dtype=torch.float64)
        share[[0, -1]] = 1.0 / n_fft  # the other bins stand for their conjugates too
        basis = torch.cat([share * torch.cos(angle), -share * torch.sin(angle)]) * window
        self.register_buffer("basis", phases(basis.float(), hop_length), persistent=False)
        squared = window.square().float().unsqueeze(0)
        self.register_buffer("squared_window", phases(squared, hop_length), persistent=False)

    def forward(self, magnitude: Tensor, phase: Tensor) -> Tensor:
        """Two (B, n_fft / 2 + 1, T), the phase in radians -> (B, (T - 1) hop)."""
        with torch.autocast(magnitude.device.type, enabled=False):
            magnitude, phase = magnitude.float(), phase.float()
            parts = torch.cat([magnitude * torch.cos(phase), magnitude * torch.sin(phase)], dim=1)
            ones = parts.new_ones(1, 1, parts.shape[-1])
            first, size = self.n_fft // 2, (parts.shape[-1] - 1) * self.hop_length
            waveform = overlap_add(parts, self.basis).narrow(1, first, size)
            return waveform / overlap_add(ones, self.squared_window).narrow(1, first, size)


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

"""Depthwise convolution over time as products of matrices, for training on a CPU."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Frames that one row of a product gives. Each costs K + 15 multiplications instead of K, in products that a processor
# does at full speed.
_BLOCK = 16


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`torch.nn.functional.conv1d` of every channel alone, with as many frames as before.

    Frames are cut into overlapping windows, and a window times a band matrix of the kernel is a block of outputs; the
    derivatives are such products too. torch's own kernel takes more than twice as long with its derivatives.

    Args:
        x (Tensor): (B, D, T), best with channels last in memory.
        weight (Tensor): (D, 1, K), K odd.
        bias (Tensor): (D,).

    Returns:
        Tensor: (B, D, T), channels last in memory, of the dtype of ``x``.
    """
    y: Tensor = _Depthwise.apply(x, weight[:, 0].to(x.dtype), bias.to(x.dtype))  # type: ignore[no-untyped-call]
    return y


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, kernel)
        y = x.new_empty(len(x), x.shape[2], x.shape[1]).transpose(1, 2)
        return torch.add(_convolved(_windows(x, kernel.shape[1]), kernel, x.shape), bias[:, None], out=y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, kernel = ctx.saved_tensors
        (dy,) = gradients
        n_channels, size = kernel.shape
        windows = _windows(dy, size)
        dx = torch.empty_like(x).copy_(_convolved(windows, kernel.flip(1), x.shape))
        blocks = windows[..., size // 2 : size // 2 + _BLOCK]
        products = _windows(x, size).mT @ blocks
        # Frame k + i of a window and output i of its block belong to weight k.
        steps = (products.stride(0), _BLOCK, _BLOCK + 1)
        d_kernel = products.as_strided((n_channels, size, _BLOCK), steps).sum(-1)
        return dx, d_kernel, dy.sum((0, 2))


def _windows(x: Tensor, size: int) -> Tensor:
    """What each block of outputs depends on: (B, D, T) -> (D, B * blocks, block + size - 1), with zeros outside."""
    n_batch, n_channels, n_frames = x.shape
    n_blocks = -(-n_frames // _BLOCK)
    padded = x.new_zeros(n_channels, n_batch, n_blocks * _BLOCK + size - 1)
    padded[..., size // 2 : size // 2 + n_frames] = x.transpose(0, 1)
    return padded.unfold(2, _BLOCK + size - 1, _BLOCK).flatten(1, 2)


def _convolved(windows: Tensor, kernel: Tensor, shape: torch.Size) -> Tensor:
    """Windows times the band matrix of kernels (D, K): (B, D, T), channels first in memory."""
    n_channels, size = kernel.shape
    # Rows of one length, read as rows one shorter, begin one later each: the kernel moves along the diagonal.
    rows = kernel.new_zeros(n_channels, _BLOCK, _BLOCK + size)
    rows[..., :size] = kernel[:, None]
    length = _BLOCK + size - 1
    band = rows.flatten(1)[:, : _BLOCK * length].view(n_channels, _BLOCK, length)
    y = (windows @ band.mT).view(n_channels, shape[0], -1)
    return y[..., : shape[2]].transpose(0, 1)

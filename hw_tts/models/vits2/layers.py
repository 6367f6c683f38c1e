"""Small parts that all networks of the model share: masks, channel norm, weight norm."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from hw_base.nn.dropout import Dropout
from hw_tts.models.base import Factor

Conv = TypeVar("Conv", nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)


def length_mask(length: Tensor, size: int) -> Tensor:
    """True inside each row's length.

    Bool and not float, so that multiplying keeps the precision of what is masked.

    Args:
        length (Tensor): (B,).
        size: columns.

    Returns:
        Tensor: bool, (B, 1, size).
    """
    return (torch.arange(size, device=length.device) < length.unsqueeze(1)).unsqueeze(1)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` with zeros where the mask is false; no mask leaves it alone."""
    return x if mask is None else x * mask


def draws(shape: Sequence[int], noise: Factor, device: torch.device) -> Tensor:
    """Random numbers of a normal distribution.

    Args:
        shape: (B, C, N).
        noise: their standard deviation; or, (B, C, M), numbers that were drawn already: cut to N, or repeated.
        device: where they are needed.

    Returns:
        Tensor: float32, (B, C, N).
    """
    if isinstance(noise, Tensor):
        return noise[..., torch.arange(shape[-1], device=device) % torch.full((1,), noise.shape[-1], device=device)]
    return torch.randn(*shape, device=device) * noise if noise else torch.zeros(*shape, device=device)


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return F.layer_norm(x.transpose(1, -1), self.gamma.shape, self.gamma, self.beta).transpose(1, -1)


def normed(conv: Conv, std: float | None = None) -> Conv:
    """A convolution under weight norm, which loads ``weight_g`` and ``weight_v`` too.

    Args:
        conv: the layer.
        std: draw its weight from a normal distribution of this deviation.
    """
    if std is not None:
        nn.init.normal_(conv.weight, 0.0, std)
    weight_norm(conv)  # changes the layer itself
    return conv


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip connections, conditioned on the speaker.

    Args:
        channels: width.
        kernel_size: of the gated convolutions.
        n_layers: layers.
        speaker_channels: width of the speaker embedding; 0 for none.
        dropout: of the gated values.
    """

    def __init__(
        self, channels: int, kernel_size: int, n_layers: int, speaker_channels: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.channels = channels
        self.drop = Dropout(dropout)
        self.in_layers = nn.ModuleList(
            normed(nn.Conv1d(channels, 2 * channels, kernel_size, padding=kernel_size // 2)) for _ in range(n_layers)
        )
        # The last layer has no layer after it that could take a residual.
        sizes = [2 * channels] * (n_layers - 1) + [channels]
        self.res_skip_layers = nn.ModuleList(normed(nn.Conv1d(channels, size, 1)) for size in sizes)
        self.cond_layer = normed(nn.Conv1d(speaker_channels, 2 * channels * n_layers, 1)) if speaker_channels else None

    def forward(self, x: Tensor, mask: Tensor | None, speaker: Tensor | None = None) -> Tensor:
        """``x`` (B, C, T), ``mask`` bool (B, 1, T), ``speaker`` (B, G, 1) -> (B, C, T), 0 in the padding."""
        n_layers = len(self.in_layers)
        conditions: tuple[Tensor | None, ...] = (None,) * n_layers
        if self.cond_layer is not None and speaker is not None:
            conditions = self.cond_layer(speaker).chunk(n_layers, dim=1)
        skipped: Tensor | None = None
        for conv, last, condition in zip(self.in_layers, self.res_skip_layers, conditions, strict=True):
            gates = conv(x)
            if condition is not None:
                gates = gates + condition
            filtered, gate = gates.chunk(2, dim=1)
            out = last(self.drop(torch.tanh(filtered) * torch.sigmoid(gate)))
            if out.shape[1] > self.channels:
                residual, out = out.chunk(2, dim=1)
                x = masked(x + residual, mask)
            skipped = out if skipped is None else skipped + out
        assert skipped is not None
        return masked(skipped, mask)

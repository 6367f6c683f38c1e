"""HiFi-GAN's generator: transposed convolutions up to the sample rate, with residual blocks of several kernel sizes.

Kong, Kim and Bae 2020, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
section 2.2 and appendix A.1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hw_base.errors import ConfigError

SLOPE = 0.1
# The published networks end with PyTorch's default slope instead.
_LAST_SLOPE = 0.01

ResidualBlock = Literal["1", "2"]
PresetName = Literal["V1", "V2", "V3"]


@dataclass(frozen=True)
class GeneratorSizes:
    """Everything that the size of a generator depends on besides the mel bins.

    Attributes:
        upsample_rates: their product is the hop length.
        upsample_kernel_sizes: of the transposed convolutions; each exceeds its rate by an even number.
        channels: before the first transposed convolution; each of them halves it.
        resblock: ``1`` has pairs of convolutions, ``2`` single ones.
        resblock_kernel_sizes: one residual block for each, side by side.
        resblock_dilations: of each residual block.
    """

    upsample_rates: Sequence[int]
    upsample_kernel_sizes: Sequence[int]
    channels: int
    resblock: ResidualBlock
    resblock_kernel_sizes: Sequence[int]
    resblock_dilations: Sequence[Sequence[int]]

    def check(self, hop_length: int) -> None:
        """Refuse sizes that contradict each other.

        Raises:
            ConfigError: what contradicts what.
        """
        rates, kernels = list(self.upsample_rates), list(self.upsample_kernel_sizes)
        if math.prod(rates) != hop_length:
            raise ConfigError(
                f"upsample_rates {rates} make {math.prod(rates)} samples of a frame, "
                f"and features.hop_length is {hop_length}"
            )
        if len(kernels) != len(rates) or any(k < r or (k - r) % 2 for k, r in zip(kernels, rates, strict=False)):
            raise ConfigError(
                f"upsample_kernel_sizes {kernels} must exceed upsample_rates {rates} one by one, by even numbers"
            )
        if self.channels % 2 ** len(rates):
            raise ConfigError(f"channels {self.channels} must be divisible by {2 ** len(rates)}: each rate halves them")
        if len(self.resblock_kernel_sizes) != len(self.resblock_dilations):
            raise ConfigError("resblock_dilations needs one list for each of resblock_kernel_sizes")
        if not all(self.resblock_dilations) or any(k % 2 == 0 for k in self.resblock_kernel_sizes):
            raise ConfigError("resblock_kernel_sizes must be odd, and no list of resblock_dilations empty")


_V1 = GeneratorSizes((8, 8, 2, 2), (16, 16, 4, 4), 512, "1", (3, 7, 11), ((1, 3, 5),) * 3)
PRESETS: dict[PresetName, GeneratorSizes] = {
    "V1": _V1,
    "V2": replace(_V1, channels=128),
    "V3": GeneratorSizes((8, 8, 4), (16, 16, 8), 256, "2", (3, 5, 7), ((1, 2), (2, 6), (3, 12))),
}


def _convolution(channels: int, kernel: int, dilation: int) -> nn.Module:
    """Keeps the number of frames."""
    padding = dilation * (kernel - 1) // 2
    layer = nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=padding)
    normalized: nn.Module = parametrizations.weight_norm(layer)
    return normalized


class PairedResidualBlock(nn.Module):
    """Residual block of V1 and V2: a dilated and a plain convolution for each dilation; (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_convolution(channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_convolution(channels, kernel, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = x + plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class SingleResidualBlock(nn.Module):
    """Residual block of V3: one convolution for each dilation; (B, C, T) -> (B, C, T)."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_convolution(channels, kernel, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convs:
            x = x + convolution(F.leaky_relu(x, SLOPE))
        return x


_BLOCKS = {"1": PairedResidualBlock, "2": SingleResidualBlock}


class Generator(nn.Module):
    """Log-mel spectrogram to waveform, ``hop_length`` samples a frame.

    Module names are those of the public checkpoints. The weights begin as PyTorch's convolutions do: the published
    code asks for N(0, 0.01), but in a way that weight normalization undoes.

    Args:
        n_mels: F.
        sizes: checked, see `GeneratorSizes.check`.
    """

    def __init__(self, n_mels: int, sizes: GeneratorSizes) -> None:
        super().__init__()
        weight_norm, block = parametrizations.weight_norm, _BLOCKS[sizes.resblock]
        self.n_parallel = len(sizes.resblock_kernel_sizes)
        self.conv_pre = weight_norm(nn.Conv1d(n_mels, sizes.channels, 7, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        channels = sizes.channels
        for rate, kernel in zip(sizes.upsample_rates, sizes.upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, stride=rate, padding=(kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            channels //= 2
            for size, dilations in zip(sizes.resblock_kernel_sizes, sizes.resblock_dilations, strict=True):
                self.resblocks.append(block(channels, size, dilations))
        self.conv_post = weight_norm(nn.Conv1d(channels, 1, 7, padding=3))

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Voice a batch.

        Args:
            spectrogram (Tensor): (B, F, T), natural logarithm.

        Returns:
            Tensor: (B, 1, T * hop_length), in [-1, 1].
        """
        x = self.conv_pre(spectrogram)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            blocks = self.resblocks[i * self.n_parallel : (i + 1) * self.n_parallel]
            x = torch.stack([block(x) for block in blocks]).mean(dim=0)
        with torch.autocast(x.device.type, enabled=False):  # eight bits of mantissa would be audible as noise
            waveform: Tensor = torch.tanh(self.conv_post(F.leaky_relu(x.float(), _LAST_SLOPE)))
        return waveform


def vocode(network: nn.Module, spectrogram: Tensor, length: Sequence[int], hop_length: int) -> Tensor:
    """Voice a batch whose rows may be padded, none of which hears the padding.

    Args:
        network: a `Generator`, perhaps wrapped.
        spectrogram (Tensor): (B, F, T).
        length: frames of each row; rows of one length are voiced together.
        hop_length: samples of a frame.

    Returns:
        Tensor: (B, T * hop_length), float32, zeros behind every row's end.
    """
    n_frames = spectrogram.shape[-1]
    if all(frames == n_frames for frames in length):
        everything: Tensor = network(spectrogram).squeeze(1).float()
        return everything
    waveform = torch.zeros(len(spectrogram), n_frames * hop_length, device=spectrogram.device)
    for frames in sorted(set(length)):
        rows = [row for row, other in enumerate(length) if other == frames]
        waveform[rows, : frames * hop_length] = network(spectrogram[rows, :, :frames]).squeeze(1).float()
    return waveform

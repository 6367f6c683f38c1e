"""From the latent to the waveform: HiFi-GAN's trunk with four heads.

Sources: Kong et al. 2020, "HiFi-GAN" (arXiv 2010.05646), section 2.2 and appendix A.1; Kaneko et al. 2022, "iSTFTNet"
(arXiv 2203.02395); Kawamura et al. 2023, "Lightweight and High-Fidelity End-to-End Text-to-Speech with Multi-Band
Generation and Inverse Short-Time Fourier Transform" (arXiv 2210.15975), sections 3.1 and 3.2.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_tts.models.vits2.filter_bank import Bank, FilterBank
from hw_tts.models.vits2.inverse_stft import InverseSTFT
from hw_tts.models.vits2.layers import normed

DecoderKind = Literal["multi_band_istft", "multi_stream_istft", "istft", "hifigan"]
SLOPE = 0.1
INIT_STD = 0.01
WIDE = 16
STREAM_KERNEL = 63


class ResBlock1(nn.Module):
    """Pairs of convolutions with a residual around each: a dilated one, then a plain one."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_same(channels, kernel_size, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(_same(channels, kernel_size, 1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        for first, second in zip(self.convs1, self.convs2, strict=True):
            x = x + second(F.leaky_relu(first(F.leaky_relu(x, SLOPE)), SLOPE))
        return x


class ResBlock2(nn.Module):
    """Dilated convolutions with a residual around each."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(_same(channels, kernel_size, dilation) for dilation in dilations)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        for conv in self.convs:
            x = x + conv(F.leaky_relu(x, SLOPE))
        return x


class SameConv1d(nn.Conv1d):
    """A convolution that keeps the number of frames.

    Wide padding is laid out beforehand: with 25 frames of it (kernel 11, dilation 5) a bfloat16 convolution took twice
    as long on a CPU as with frames that are already there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        width = (self.kernel_size[0] - 1) * self.dilation[0] // 2
        if width > WIDE:
            return F.conv1d(F.pad(x, (width, width)), self.weight, self.bias, dilation=self.dilation)
        return F.conv1d(x, self.weight, self.bias, padding=width, dilation=self.dilation)


def _same(channels: int, kernel_size: int, dilation: int) -> nn.Conv1d:
    return normed(SameConv1d(channels, channels, kernel_size, dilation=dilation), INIT_STD)


@dataclass(frozen=True)
class DecoderSizes:
    """What a decoder is built from.

    Attributes:
        in_channels: of the latent.
        resblock: kind of the residual blocks.
        resblock_kernel_sizes: one block each, averaged.
        resblock_dilations: of each block's convolutions.
        upsample_rates: strides.
        upsample_kernel_sizes: of the transposed convolutions.
        upsample_initial_channels: halved at each stride.
        n_fft: of the inverse transform.
        istft_hop_length: of the inverse transform.
        subbands: of the multi-band and multi-stream decoders.
        bank: of the multi-band decoder.
        speaker_channels: width of the speaker embedding that is added to the first layer; 0 for none.
    """

    in_channels: int
    resblock: Literal["1", "2"] = "1"
    resblock_kernel_sizes: Sequence[int] = (3, 7, 11)
    resblock_dilations: Sequence[Sequence[int]] = ((1, 3, 5), (1, 3, 5), (1, 3, 5))
    upsample_rates: Sequence[int] = (4, 4)
    upsample_kernel_sizes: Sequence[int] = (16, 16)
    upsample_initial_channels: int = 512
    n_fft: int = 16
    istft_hop_length: int = 4
    subbands: int = 4
    bank: Bank = "exact"
    speaker_channels: int = 0


class Decoder(nn.Module):
    """The trunk: upsampling by transposed convolutions, each followed by residual blocks of several kernel sizes."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__()
        width = sizes.upsample_initial_channels
        self.conv_pre = self.first_layer(nn.Conv1d(sizes.in_channels, width, 7, padding=3))
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        block = ResBlock1 if sizes.resblock == "1" else ResBlock2
        for rate, size in zip(sizes.upsample_rates, sizes.upsample_kernel_sizes, strict=True):
            up = nn.ConvTranspose1d(width, width // 2, size, rate, padding=(size - rate) // 2)
            self.ups.append(normed(up, INIT_STD))
            width //= 2
            for kernel_size, dilations in zip(sizes.resblock_kernel_sizes, sizes.resblock_dilations, strict=True):
                self.resblocks.append(block(width, kernel_size, dilations))
        self.cond = None
        if sizes.speaker_channels:
            self.cond = nn.Conv1d(sizes.speaker_channels, sizes.upsample_initial_channels, 1)

    @staticmethod
    def first_layer(conv: nn.Conv1d) -> nn.Conv1d:
        """Under weight norm; the public HiFi-GAN decoder alone has it bare."""
        return normed(conv)

    @classmethod
    def samples_per_frame(cls, sizes: DecoderSizes) -> int:
        """Samples that each frame of the latent becomes."""
        return math.prod(sizes.upsample_rates)

    def trunk(self, z: Tensor, speaker: Tensor | None) -> Tensor:
        """(B, C, T) -> (B, C', T x product of the upsampling rates)."""
        dtype = next(self.parameters()).dtype
        x = self.conv_pre(z.to(dtype))
        if self.cond is not None and speaker is not None:
            x = x + self.cond(speaker.to(dtype))
        n_blocks = len(self.resblocks) // len(self.ups)
        for index, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, SLOPE))
            first, *others = self.resblocks[index * n_blocks : (index + 1) * n_blocks]
            total = first(x)
            for block in others:
                total = total + block(x)
            x = total / n_blocks
        # Under autocast the last layer chooses its precision itself; after `convert` it has its own.
        return F.leaky_relu(x) if dtype == z.dtype else F.leaky_relu(x).to(z.dtype)

    def convert(self, dtype: torch.dtype) -> None:
        """Let the trunk compute in another precision; the last layer, whose phases ask for more, stays as it is."""
        for part in (self.conv_pre, self.ups, self.resblocks, self.cond):
            if part is not None:
                part.to(dtype)

    def forward(self, z: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Make audio.

        Args:
            z (Tensor): the latent, (B, C, T).
            speaker (Tensor): (B, G, 1).

        Returns:
            The waveform (B, S); and the sub-bands (B, M, S / M) of the multi-band decoder, which learns from them,
            else None.
        """
        raise NotImplementedError

    def out_channels(self, sizes: DecoderSizes) -> int:
        """Channels of the trunk's output."""
        return sizes.upsample_initial_channels >> len(self.ups)


class HiFiGANDecoder(Decoder):
    """A convolution makes the samples."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__(sizes)
        self.conv_post = nn.Conv1d(self.out_channels(sizes), 1, 7, padding=3, bias=False)

    @staticmethod
    def first_layer(conv: nn.Conv1d) -> nn.Conv1d:
        """Without weight norm."""
        return conv

    def forward(self, z: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Decoder.forward`."""
        return torch.tanh(self.conv_post(self.trunk(z, speaker))).squeeze(1).float(), None


class ISTFTDecoder(Decoder):
    """The trunk ends in a spectrogram, and the inverse Fourier transform does the last of the upsampling."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__(sizes)
        self.conv_post = normed(nn.Conv1d(self.out_channels(sizes), sizes.n_fft + 2, 7, padding=3), INIT_STD)
        self.inverse_stft = InverseSTFT(sizes.n_fft, sizes.istft_hop_length)

    @classmethod
    def samples_per_frame(cls, sizes: DecoderSizes) -> int:
        """Samples that each frame of the latent becomes."""
        return math.prod(sizes.upsample_rates) * sizes.istft_hop_length

    def forward(self, z: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Decoder.forward`."""
        spectrogram = self.conv_post(one_more(self.trunk(z, speaker)))
        return to_signals(self.inverse_stft, spectrogram), None


class SubbandDecoder(Decoder):
    """The trunk ends in a small spectrogram for each of several signals, which are joined at a higher rate."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__(sizes)
        self.subbands = sizes.subbands
        channels = sizes.subbands * (sizes.n_fft + 2)
        self.subband_conv_post = normed(nn.Conv1d(self.out_channels(sizes), channels, 7, padding=3), INIT_STD)
        self.inverse_stft = InverseSTFT(sizes.n_fft, sizes.istft_hop_length)

    @classmethod
    def samples_per_frame(cls, sizes: DecoderSizes) -> int:
        """Samples that each frame of the latent becomes."""
        return math.prod(sizes.upsample_rates) * sizes.istft_hop_length * sizes.subbands

    def signals(self, z: Tensor, speaker: Tensor | None) -> Tensor:
        """The signals to be joined, (B, M, S / M)."""
        spectrogram = self.subband_conv_post(one_more(self.trunk(z, speaker)))
        spectrogram = spectrogram.reshape(z.shape[0] * self.subbands, -1, spectrogram.shape[-1])
        return to_signals(self.inverse_stft, spectrogram).view(z.shape[0], self.subbands, -1)


class MultiBandDecoder(SubbandDecoder):
    """The signals are sub-bands, joined by a fixed filter bank."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__(sizes)
        self.filter_bank = FilterBank(sizes.subbands, sizes.bank)

    def forward(self, z: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Decoder.forward`."""
        subbands = self.signals(z, speaker)
        with torch.autocast(z.device.type, enabled=False):
            return self.filter_bank.synthesis(subbands), subbands


class MultiStreamDecoder(SubbandDecoder):
    """The signals are whatever a learned filter joins best."""

    def __init__(self, sizes: DecoderSizes) -> None:
        super().__init__(sizes)
        joining = nn.Conv1d(sizes.subbands, 1, STREAM_KERNEL, padding=STREAM_KERNEL // 2, bias=False)
        self.multistream_conv_post = normed(joining, INIT_STD)

    def forward(self, z: Tensor, speaker: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """See `Decoder.forward`."""
        streams = self.signals(z, speaker)
        # Zeros between the samples bring them to the full rate, and the factor keeps their power.
        spread = F.pad(streams.unsqueeze(-1) * self.subbands, (0, self.subbands - 1)).flatten(-2)
        return self.multistream_conv_post(spread).squeeze(1).float(), None


def to_signals(inverse_stft: InverseSTFT, spectrogram: Tensor) -> Tensor:
    """Log magnitudes above and phases below, (B, n_fft + 2, T + 1) -> signals (B, T hop)."""
    magnitude, phase = spectrogram.float().chunk(2, dim=1)
    signals: Tensor = inverse_stft(torch.exp(magnitude), math.pi * torch.sin(phase))
    return signals


def one_more(x: Tensor) -> Tensor:
    """One more frame in front, mirrored: T hops have T + 1 borders."""
    return torch.cat([x.narrow(-1, 1, 1), x], dim=-1)  # several times as fast as `F.pad` on a CPU


DECODERS: dict[DecoderKind, type[Decoder]] = {
    "multi_band_istft": MultiBandDecoder,
    "multi_stream_istft": MultiStreamDecoder,
    "istft": ISTFTDecoder,
    "hifigan": HiFiGANDecoder,
}

"""Losses of waveform generators and their discriminators: least squares, feature matching, log-mel distance.

Kong, Kim and Bae 2020, "HiFi-GAN", equations 1 to 5. A list has one entry for each discriminator.
"""

from collections.abc import Sequence

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from hw_base.audio.mel import LogMelSpectrogram
from hw_base.nn.losses import SumAndCount, masked_mean
from hw_base.registry import LOSSES

# The published weight of feature matching is 2; public implementations count it into the loss itself.
_FEATURE_MATCHING_SCALE = 2.0


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least squares that draw the scores of recordings to 1 and those of generated audio to 0.

    Args:
        real: scores of recordings, any shape, one tensor for each discriminator.
        fake: scores of generated audio; the generator gets no gradient if it was detached before.

    Returns:
        Tensor: scalar, the sum over discriminators of means.
    """
    pairs = zip(real, fake, strict=True)
    return torch.stack([(1 - r.float()).square().mean() + f.float().square().mean() for r, f in pairs]).sum()


def generator_loss(fake: Sequence[Tensor]) -> Tensor:
    """Least squares that draw the scores of generated audio to 1; scalar, the sum over discriminators of means."""
    return torch.stack([(1 - f.float()).square().mean() for f in fake]).sum()


def feature_matching_loss(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 between what the layers of the discriminators make of a recording and of generated audio.

    Args:
        real: for each discriminator the maps of its layers; taken as constants.
        fake: as many.

    Returns:
        Tensor: scalar, twice the sum over discriminators and layers of means.
    """
    pairs = [(r, f) for maps in zip(real, fake, strict=True) for r, f in zip(*maps, strict=True)]
    distances = [(r.detach().float() - f.float()).abs().mean() for r, f in pairs]
    return _FEATURE_MATCHING_SCALE * torch.stack(distances).sum()


def mel_loss(real: Tensor, fake: Tensor, length: Tensor | None = None) -> SumAndCount:
    """L1 between log-mel spectrograms.

    Args:
        real (Tensor): (B, F, T), natural logarithm.
        fake (Tensor): (B, F, T).
        length (Tensor): (B,), frames that count; None counts all.
    """
    frame = torch.arange(real.shape[-1], device=real.device)
    n_frames = torch.full((len(real),), real.shape[-1], device=real.device) if length is None else length
    n_frames = n_frames.to(real.device, non_blocking=True)
    return masked_mean((real - fake).abs(), (frame < n_frames.unsqueeze(1)).unsqueeze(1))


@LOSSES.register()
class AdversarialLoss(nn.Module):
    """Least-squares GAN, the discriminators' part and the generator's."""

    def __init__(self) -> None:
        super().__init__()

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """See `discriminator_loss`."""
        return discriminator_loss(real, fake)

    def forward(self, fake: Sequence[Tensor]) -> Tensor:
        """See `generator_loss`."""
        return generator_loss(fake)


@LOSSES.register()
class FeatureMatchingLoss(nn.Module):
    """L1 between discriminators' feature maps of a recording and of generated audio, see `feature_matching_loss`."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
        """See `feature_matching_loss`."""
        return feature_matching_loss(real, fake)


@LOSSES.register()
class WaveformMelLoss(nn.Module):
    """L1 between the log-mel spectrograms of two waveforms.

    Args:
        f_max: upper edge of these spectrograms in Hz; None is half the sample rate, so that the highest frequencies
            are learned too where the generator's own input ends at 8 kHz.
    """

    def __init__(self, f_max: PositiveFloat | None = None) -> None:
        super().__init__()
        self.f_max = f_max
        self._features: LogMelSpectrogram | None = None

    def prepare(self, features: LogMelSpectrogram) -> None:
        """Say once what the other constants of the spectrograms are."""
        self._features = LogMelSpectrogram(**{**features.constants(), "f_max": self.f_max})

    def forward(self, real: Tensor, fake: Tensor, length: Tensor | None = None) -> SumAndCount:
        """Compare.

        Args:
            real (Tensor): (B, S).
            fake (Tensor): (B, S).
            length (Tensor): (B,), samples that count; None counts all.
        """
        assert self._features is not None
        features = self._features.to(real.device)
        frames = None if length is None else features.frames(length)
        return mel_loss(features(real, length), features(fake, length), frames)

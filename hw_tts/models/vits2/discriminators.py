"""Discriminators of waveforms: one over the samples, and one for each of several periods (HiFi-GAN, section 2.3).

VITS has a single discriminator over samples, and none over smoothed waveforms.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.nn.dropout import Dropout
from hw_tts.models.hifigan.discriminators import Scored, scores_and_features
from hw_tts.models.vits2.layers import ChannelNorm, masked, normed


class SampleDiscriminator(nn.Module):
    """Grouped strided convolutions over the samples.

    Args:
        channels: of the widest layers; 1024 in the public checkpoints.
    """

    def __init__(self, channels: int = 1024) -> None:
        super().__init__()
        sizes = [max(4, channels // divisor) for divisor in (64, 16, 4, 1, 1, 1)]
        layers = [nn.Conv1d(1, sizes[0], 15, padding=7)]
        for n_inputs, n_outputs in itertools.pairwise(sizes[:5]):
            layers.append(nn.Conv1d(n_inputs, n_outputs, 41, 4, padding=20, groups=n_inputs // 4))
        layers.append(nn.Conv1d(sizes[4], sizes[5], 5, padding=2))
        self.convs = nn.ModuleList(normed(layer) for layer in layers)
        self.conv_post = normed(nn.Conv1d(sizes[5], 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> Scored:
        """``waveform`` (B, S) -> scores (B, N), and the features of every layer."""
        return scores_and_features(self.convs, self.conv_post, waveform.unsqueeze(1))


class PeriodDiscriminator(nn.Module):
    """Convolutions over every n-th sample.

    Args:
        period: n.
        channels: of the widest layers; 1024 in the public checkpoints.
    """

    def __init__(self, period: int, channels: int = 1024) -> None:
        super().__init__()
        self.period = period
        sizes = [1, *(max(1, channels // divisor) for divisor in (32, 8, 2, 1))]
        layers = [
            nn.Conv2d(n_inputs, n_outputs, (5, 1), (3, 1), padding=(2, 0))
            for n_inputs, n_outputs in itertools.pairwise(sizes)
        ]
        layers.append(nn.Conv2d(sizes[-1], sizes[-1], (5, 1), padding=(2, 0)))
        self.convs = nn.ModuleList(normed(layer) for layer in layers)
        self.conv_post = normed(nn.Conv2d(sizes[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> Scored:
        """``waveform`` (B, S) -> scores (B, N), and the features of every layer."""
        missing = -waveform.shape[1] % self.period
        padded = F.pad(waveform.unsqueeze(1), (0, missing), mode="reflect")
        folded = padded.view(*padded.shape[:2], -1, self.period)
        return scores_and_features(self.convs, self.conv_post, folded)


class Discriminators(nn.Module):
    """All discriminators of waveforms as one module.

    Args:
        periods: one discriminator each, besides the one over samples.
        channels: of the widest layers.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), channels: int = 1024) -> None:
        super().__init__()
        by_period = [PeriodDiscriminator(period, channels) for period in periods]
        self.discriminators = nn.ModuleList([SampleDiscriminator(channels), *by_period])

    def forward(self, waveform: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Score a batch.

        Args:
            waveform (Tensor): (B, S).

        Returns:
            Of every discriminator the scores (B, N), near 1 for recordings and near 0 for generated audio, and the
            features of its layers.
        """
        scored = [discriminator(waveform) for discriminator in self.discriminators]
        return [scores for scores, _ in scored], [features for _, features in scored]


class DurationDiscriminator(nn.Module):
    """Scores each token's duration beside its hidden state (the type ``dur_disc_2`` of the public checkpoints).

    Args:
        channels: of the hidden states.
        filter_channels: width.
        kernel_size: of the convolutions.
        dropout: after each convolution.
    """

    def __init__(self, channels: int, filter_channels: int, kernel_size: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.drop = Dropout(dropout)
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel_size, padding=padding)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.norm_2 = ChannelNorm(filter_channels)
        self.dur_proj = nn.Conv1d(1, filter_channels, 1)
        self.pre_out_conv_1 = nn.Conv1d(2 * filter_channels, filter_channels, kernel_size, padding=padding)
        self.pre_out_norm_1 = ChannelNorm(filter_channels)
        self.pre_out_conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.pre_out_norm_2 = ChannelNorm(filter_channels)
        self.output_layer = nn.Sequential(nn.Linear(filter_channels, 1), nn.Sigmoid())

    def forward(self, hidden: Tensor, mask: Tensor, *log_durations: Tensor) -> list[Tensor]:
        """Score several durations of the same tokens.

        Args:
            hidden (Tensor): of the text encoder, (B, D, L).
            mask (Tensor): bool, (B, 1, L).
            log_durations (Tensor): natural log of frames, (B, L) each.

        Returns:
            For each of `log_durations` the probability that it is of real speech, (B, L).
        """
        x = self.drop(self.norm_1(torch.relu(self.conv_1(masked(hidden, mask)))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(masked(x, mask)))))
        return [self._score(x, mask, durations.unsqueeze(1)) for durations in log_durations]

    def _score(self, x: Tensor, mask: Tensor, log_durations: Tensor) -> Tensor:
        x = torch.cat([x, self.dur_proj(log_durations)], dim=1)
        x = self.drop(self.pre_out_norm_1(torch.relu(self.pre_out_conv_1(masked(x, mask)))))
        x = self.drop(self.pre_out_norm_2(torch.relu(self.pre_out_conv_2(masked(x, mask)))))
        probability: Tensor = self.output_layer(masked(x, mask).mT)
        return probability.squeeze(-1)

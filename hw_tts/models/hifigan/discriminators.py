"""HiFi-GAN's discriminators (Kong, Kim and Bae 2020, section 2.3 and appendix A.2; the multi-scale one is MelGAN's)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hw_tts.models.hifigan.generator import SLOPE

Scored = tuple[Tensor, list[Tensor]]

# Of the layers but the last one: fraction of the width, kernel, stride, groups.
_SCALE_LAYERS = (
    (1 / 8, 15, 1, 1),
    (1 / 8, 41, 2, 4),
    (1 / 4, 41, 2, 16),
    (1 / 2, 41, 4, 16),
    (1, 41, 4, 16),
    (1, 41, 1, 16),
    (1, 5, 1, 1),
)
_PERIOD_LAYERS = ((1 / 32, 3), (1 / 8, 3), (1 / 2, 3), (1, 3), (1, 1))


def scores_and_features(layers: nn.ModuleList, last: nn.Module, x: Tensor) -> Scored:
    """Scores (B, N), and what every layer gave, the last one's among them."""
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    x = last(x)
    features.append(x)
    return x.flatten(1), features


class PeriodDiscriminator(nn.Module):
    """Sees every `period`-th sample side by side: the waveform folded into (N, period).

    Args:
        period: in samples.
        width: channels of the widest layers; 1024 in the paper.
    """

    def __init__(self, period: int, width: int = 1024) -> None:
        super().__init__()
        self.period = period
        self.convs = nn.ModuleList()
        before = 1
        for fraction, stride in _PERIOD_LAYERS:
            after = max(1, round(width * fraction))
            layer = nn.Conv2d(before, after, (5, 1), (stride, 1), padding=(2, 0))
            self.convs.append(parametrizations.weight_norm(layer))
            before = after
        self.conv_post = parametrizations.weight_norm(nn.Conv2d(before, 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> Scored:
        """Score a batch.

        Args:
            waveform (Tensor): (B, 1, S), of more samples than a period.

        Returns:
            Scores (B, N), and the feature maps.
        """
        missing = -waveform.shape[-1] % self.period
        waveform = F.pad(waveform, (0, missing), mode="reflect") if missing else waveform
        folded = waveform.reshape(len(waveform), 1, -1, self.period)
        return scores_and_features(self.convs, self.conv_post, folded)


class ScaleDiscriminator(nn.Module):
    """Sees the waveform as it is, with long kernels.

    Args:
        norm: of every layer's weight.
        width: channels of the widest layers; 1024 in the paper.
    """

    def __init__(self, norm: Callable[[nn.Module], nn.Module], width: int = 1024) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        before = 1
        for fraction, kernel, stride, groups in _SCALE_LAYERS:
            after = max(1, round(width * fraction))
            groups = math.gcd(groups, before, after)
            layer = nn.Conv1d(before, after, kernel, stride, padding=kernel // 2, groups=groups)
            self.convs.append(norm(layer))
            before = after
        self.conv_post = norm(nn.Conv1d(before, 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> Scored:
        """Score a batch, (B, 1, S); see `PeriodDiscriminator.forward`."""
        return scores_and_features(self.convs, self.conv_post, waveform)


class MultiPeriodDiscriminator(nn.Module):
    """One discriminator for each period."""

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), width: int = 1024) -> None:
        super().__init__()
        self.discriminators = nn.ModuleList(PeriodDiscriminator(period, width) for period in periods)

    def forward(self, waveform: Tensor) -> list[Scored]:
        """Score a batch, (B, 1, S)."""
        return [discriminator(waveform) for discriminator in self.discriminators]


class MultiScaleDiscriminator(nn.Module):
    """The first sees all samples, under spectral norm; each further one sees averages of half the rate of the last."""

    def __init__(self, n_scales: int = 3, width: int = 1024) -> None:
        super().__init__()
        norms: list[Any] = [parametrizations.spectral_norm, *[parametrizations.weight_norm] * (n_scales - 1)]
        self.discriminators = nn.ModuleList(ScaleDiscriminator(norm, width) for norm in norms[:n_scales])
        self.pooling = nn.AvgPool1d(4, 2, padding=2)

    def forward(self, waveform: Tensor) -> list[Scored]:
        """Score a batch, (B, 1, S)."""
        scored = []
        for i, discriminator in enumerate(self.discriminators):
            waveform = self.pooling(waveform) if i else waveform
            scored.append(discriminator(waveform))
        return scored


class Discriminators(nn.Module):
    """All of them as one module, so that one optimizer trains them.

    Args:
        periods: of the multi-period discriminator.
        n_scales: of the multi-scale discriminator.
        width: channels of the widest layers; 1024 in the paper.
    """

    def __init__(self, periods: Sequence[int] = (2, 3, 5, 7, 11), n_scales: int = 3, width: int = 1024) -> None:
        super().__init__()
        self.mpd = MultiPeriodDiscriminator(periods, width)
        self.msd = MultiScaleDiscriminator(n_scales, width)

    def forward(self, waveform: Tensor) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Score a batch.

        Args:
            waveform (Tensor): (B, 1, S).

        Returns:
            The scores of each discriminator, (B, N), and the feature maps of each.
        """
        scored = [*self.mpd(waveform), *self.msd(waveform)]
        return [scores for scores, _ in scored], [features for _, features in scored]

"""Losses of VITS2 besides those of every waveform generator (`hw_tts.gan_losses`), each by its name in a config.

Sources: Kim et al. 2021, VITS, equations 3 to 9; Kong et al. 2023, VITS2, section 2.1; Yamamoto et al. 2020, Parallel
WaveGAN, section 2.2, for the distances of magnitudes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.errors import ConfigError
from hw_base.losses import Mean, masked_mean
from hw_base.registry import LOSSES

_SMALLEST_POWER = 1e-7


@LOSSES.register()
class KLLoss(nn.Module):
    """Divergence of posterior and prior (VITS, equation 4), with the posterior's own sample in place of its mean.

    The mean is over frames; channels are summed.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self,
        prior_latent: Tensor,
        posterior_log_scale: Tensor,
        prior_mean: Tensor,
        prior_log_scale: Tensor,
        frames_mask: Tensor,
        **batch: Any,
    ) -> Mean:
        """Compare.

        Args:
            prior_latent (Tensor): the posterior's sample, through the flow, (B, C, T).
            posterior_log_scale (Tensor): log of deviations, (B, C, T).
            prior_mean (Tensor): (B, C, T).
            prior_log_scale (Tensor): (B, C, T).
            frames_mask (Tensor): bool, (B, 1, T).
            batch: not used.
        """
        distance = (prior_latent.float() - prior_mean.float()).square() * torch.exp(-2.0 * prior_log_scale.float())
        values = prior_log_scale.float() - posterior_log_scale.float() - 0.5 + 0.5 * distance
        return masked_mean(values.sum(dim=1, keepdim=True), frames_mask)


@LOSSES.register()
class LogDurationLoss(nn.Module):
    """Squared error of log durations, or the negative log likelihood of a stochastic predictor, a mean over tokens."""

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self,
        log_durations_target: Tensor,
        log_durations_predicted: Tensor,
        tokens_mask: Tensor,
        durations_nll: Tensor | None = None,
        **batch: Any,
    ) -> Mean:
        """Compare.

        Args:
            log_durations_target (Tensor): natural log of frames, (B, L).
            log_durations_predicted (Tensor): (B, L).
            tokens_mask (Tensor): bool, (B, 1, L).
            durations_nll (Tensor): (B,), of a stochastic predictor.
            batch: not used.
        """
        mask = tokens_mask.squeeze(1)
        if durations_nll is not None:
            return Mean(durations_nll.float().sum(), mask.sum().float())
        return masked_mean((log_durations_predicted.float() - log_durations_target.float()).square(), mask)


@LOSSES.register()
class SubbandSTFTLoss(nn.Module):
    """Distances of magnitudes of the sub-bands at several resolutions: spectral convergence plus L1 of logarithms.

    Args:
        fft_sizes: in samples of a sub-band, one for each resolution.
        hop_sizes: as many.
        window_sizes: as many, of Hann windows.

    Raises:
        ConfigError: the lists differ in length.
    """

    def __init__(
        self,
        fft_sizes: tuple[PositiveInt, ...] = (384, 683, 171),
        hop_sizes: tuple[PositiveInt, ...] = (30, 60, 10),
        window_sizes: tuple[PositiveInt, ...] = (150, 300, 60),
    ) -> None:
        super().__init__()
        if not len(fft_sizes) == len(hop_sizes) == len(window_sizes):
            raise ConfigError("SubbandSTFTLoss: fft_sizes, hop_sizes and window_sizes must be of one length")
        self.sizes = list(zip(fft_sizes, hop_sizes, window_sizes, strict=True))
        for i, size in enumerate(window_sizes):
            self.register_buffer(f"window_{i}", torch.hann_window(size), persistent=False)

    def forward(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compare.

        Args:
            real (Tensor): sub-bands of the recording, (B, M, S / M).
            fake (Tensor): of the generated audio, (B, M, S / M).

        Returns:
            Tensor: scalar, the mean over resolutions.
        """
        with torch.autocast(real.device.type, enabled=False):
            real, fake = (x.float().flatten(0, 1) for x in (real, fake))
            values = []
            for i, (n_fft, hop, window) in enumerate(self.sizes):
                taper = getattr(self, f"window_{i}").to(real.device)
                target, made = (_magnitudes(x, n_fft, hop, window, taper) for x in (real, fake))
                convergence = torch.linalg.vector_norm(target - made) / torch.linalg.vector_norm(target)
                values.append(convergence + F.l1_loss(made.log(), target.log()))
            return torch.stack(values).mean()


def _magnitudes(x: Tensor, n_fft: int, hop: int, window: int, taper: Tensor) -> Tensor:
    spectrum = torch.stft(x, n_fft, hop, window, taper, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp(min=_SMALLEST_POWER).sqrt()


@LOSSES.register()
class DurationAdversarialLoss(nn.Module):
    """Least squares of the duration discriminator and against it, means over tokens (VITS2, equations 1 and 2)."""

    def __init__(self) -> None:
        super().__init__()

    def discriminator(self, judged: Sequence[Tensor], tokens_mask: Tensor) -> Mean:
        """Draw real durations to 1 and predicted ones to 0.

        Args:
            judged: probabilities (B, L) of the real ones, then of the predicted ones.
            tokens_mask (Tensor): bool, (B, 1, L).
        """
        real, fake = (scores.float() for scores in judged)
        return masked_mean((1.0 - real).square() + fake.square(), tokens_mask.squeeze(1))

    def forward(self, fake: Tensor, tokens_mask: Tensor) -> Mean:
        """Draw predicted durations to 1; arguments as in `discriminator`."""
        return masked_mean((1.0 - fake.float()).square(), tokens_mask.squeeze(1))

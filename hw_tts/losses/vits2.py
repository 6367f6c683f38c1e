"""Losses of VITS2 besides those in `hw_tts.losses.adversarial`, each by its name in a config.

Sources: Kim et al. 2021, VITS, equations 3 to 9; Kong et al. 2023, VITS2, section 2.1; Yamamoto et al. 2020, Parallel
WaveGAN, section 2.2, for the distances of magnitudes.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base import distributed
from hw_base.errors import ConfigError
from hw_base.nn.losses import SumAndCount, masked_mean
from hw_base.registry import LOSSES

_SMALLEST_POWER = 1e-7
# Of a target without sound: magnitudes of noise at -60 dB of full scale lie above it.
_SILENT_POWER = 2e-5


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
    ) -> SumAndCount:
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
    ) -> SumAndCount:
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
            return SumAndCount(durations_nll.float().sum(), mask.sum().float())
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
        sizes = zip(fft_sizes, hop_sizes, window_sizes, strict=True)
        self.resolutions = nn.ModuleList(Magnitudes(*size) for size in sizes)

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
            self.resolutions.to(real.device)
            values = []
            for magnitudes in self.resolutions:
                target, made = magnitudes(real), magnitudes(fake)
                values.append(spectral_convergence(target, made) + F.l1_loss(made.log(), target.log()))
            return torch.stack(values).mean()


def spectral_convergence(target: Tensor, made: Tensor) -> Tensor:
    """Norm of the difference of magnitudes, relative to the norm of the target (Yamamoto et al. 2020, equation 5).

    A silent target, whose mean square lies below `_SILENT_POWER`, has no level to relate to: there the louder of the
    two norms divides, so that the value and its gradient stay of the order of 1.

    In training both norms are those of all processes' batches together, so that several processes train as one does.

    Args:
        target (Tensor): magnitudes of recordings, any shape.
        made (Tensor): of generated audio, likewise.
    """
    level, made_level = torch.linalg.vector_norm(target), torch.linalg.vector_norm(made.detach())
    power = target.square().mean()
    difference: Tensor = torch.linalg.vector_norm(target - made)
    if distributed.active() and made.requires_grad:  # of an evaluation the processes may have other numbers of batches
        squares = torch.stack([level, made_level, difference.detach()]).square()
        numbers = distributed.sum_over_processes(torch.cat([squares, squares.new_tensor([target.numel()])]))
        level, made_level, whole = numbers[:3].sqrt().unbind()
        power = numbers[0] / numbers[3]
        # Gradients are averaged over processes: that of a norm is half of each part's square, relative to the norm.
        part = difference.square() * distributed.world_size() / (2 * whole).clamp(min=1e-12)
        difference = whole + (part - part.detach())
    silent = power < _SILENT_POWER
    return difference / torch.where(silent, torch.maximum(level, made_level), level)


class Magnitudes(nn.Module):
    """Magnitudes of a Fourier transform of centered frames, reflected at the ends, by one matrix product.

    The published sizes are no powers of two, one is a prime, and the windows are less than half as long: the product
    with the few samples that a window lets through is several times as fast as a transform of all.

    Args:
        n_fft: in samples.
        hop: between frames.
        window: length of the Hann window, centered in the frame, at most `n_fft`.

    Raises:
        ConfigError: the window is longer than the frame.
    """

    basis: Tensor

    def __init__(self, n_fft: int, hop: int, window: int) -> None:
        super().__init__()
        if window > n_fft:
            raise ConfigError(f"SubbandSTFTLoss: a window of {window} samples does not fit into an FFT of {n_fft}")
        self.n_fft, self.hop, self.window = n_fft, hop, window
        self.n_bins = n_fft // 2 + 1
        at = torch.arange(window, dtype=torch.float64).unsqueeze(1) + (n_fft - window) // 2
        angle = at * torch.arange(self.n_bins) * (2 * math.pi / n_fft)
        taper = torch.hann_window(window, dtype=torch.float64).unsqueeze(1)
        basis = torch.cat([taper * torch.cos(angle), taper * torch.sin(angle)], dim=1)
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, S) -> (N, T, n_fft / 2 + 1), at least the root of the smallest power."""
        n_frames = 1 + (x.shape[1] + 2 * (self.n_fft // 2) - self.n_fft) // self.hop
        padded = F.pad(x.unsqueeze(1), (self.n_fft // 2,) * 2, mode="reflect").squeeze(1)
        windows = padded[:, (self.n_fft - self.window) // 2 :].unfold(1, self.window, self.hop)[:, :n_frames]
        spectrum = (windows.flatten(0, 1) @ self.basis).view(len(x), n_frames, 2, self.n_bins)
        return spectrum.square().sum(dim=2).clamp(min=_SMALLEST_POWER).sqrt()


@LOSSES.register()
class DurationAdversarialLoss(nn.Module):
    """Least squares of the duration discriminator and against it, means over tokens (VITS2, equations 1 and 2)."""

    def __init__(self) -> None:
        super().__init__()

    def discriminator(self, probabilities: Sequence[Tensor], tokens_mask: Tensor) -> SumAndCount:
        """Draw real durations to 1 and predicted ones to 0.

        Args:
            probabilities: (B, L) of the real ones, then of the predicted ones.
            tokens_mask (Tensor): bool, (B, 1, L).
        """
        real, fake = (scores.float() for scores in probabilities)
        return masked_mean((1.0 - real).square() + fake.square(), tokens_mask.squeeze(1))

    def forward(self, fake: Tensor, tokens_mask: Tensor) -> SumAndCount:
        """Draw predicted durations to 1; arguments as in `discriminator`."""
        return masked_mean((1.0 - fake.float()).square(), tokens_mask.squeeze(1))

"""Distances of spectrograms, and intelligibility estimated from them."""

import math
import warnings
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import METRICS
from hw_tts.metrics.base import MeanMetric, Pair
from hw_tts.metrics.world import FRAME_SECONDS

# Peaks below -60 dB of full scale: digital silence, dither, a muted microphone.
_SILENCE = 1e-3

Resolution = tuple[PositiveInt, PositiveInt, PositiveInt]


@METRICS.register()
class LogMelL1(MeanMetric):
    """Mean absolute difference of log-mel spectrograms, natural logarithm, over bins and frames; 0 is perfect.

    Matched pairs are compared frame by frame, others along `MCD`'s path. Each pair counts once.

    Args:
        n_fft: in samples, also of the Hann window.
        hop_length: in samples.
        n_mels: Slaney's filters of equal area on magnitudes.
        f_max: in Hz, at most half the sample rate is used.
        eps: smallest mel value before the logarithm.
    """

    def __init__(
        self,
        n_fft: PositiveInt = 1024,
        hop_length: PositiveInt = 256,
        n_mels: PositiveInt = 80,
        f_max: PositiveFloat = 8000.0,
        eps: PositiveFloat = 1e-5,
    ) -> None:
        super().__init__()
        if hop_length > n_fft:
            raise ConfigError(f"hop_length: {hop_length} leaves gaps between windows of n_fft {n_fft}")
        self.n_fft, self.hop_length, self.n_mels, self.f_max, self.eps = n_fft, hop_length, n_mels, f_max, eps

    def measure(self, pair: Pair) -> tuple[float, float]:
        if pair.matched:
            a, b = (self._log_mel(waveform, pair.sample_rate) for waveform in pair.same_length())
        else:
            a, b = (self._log_mel(waveform, pair.sample_rate) for waveform in (pair.reference, pair.synthesized))
            i, j = pair.alignment().path
            scale = FRAME_SECONDS * pair.sample_rate / self.hop_length
            a = a[:, (torch.from_numpy(i) * scale).round().long().clamp(max=a.shape[1] - 1)]
            b = b[:, (torch.from_numpy(j) * scale).round().long().clamp(max=b.shape[1] - 1)]
        return float((a - b).abs().mean()), 1.0

    def _log_mel(self, waveform: Tensor, sample_rate: int) -> Tensor:
        f_max = min(self.f_max, sample_rate / 2)
        features = _features(sample_rate, self.n_fft, self.hop_length, self.n_mels, f_max, self.eps)
        spectrogram: Tensor = features(_lengthened(waveform, features.min_samples))
        return spectrogram


@METRICS.register()
class MultiResolutionSTFT(MeanMetric):
    """Spectral convergence plus the mean absolute difference of log magnitudes, averaged over several resolutions
    (Yamamoto et al. 2020, "Parallel WaveGAN", equations 4 to 6, with the resolutions of its table 1); 0 is perfect.

    Matched pairs only; others are skipped, because warping would hide or invent what this distance is about. So are
    recordings without sound: the spectral convergence divides by the recording's magnitudes.

    Args:
        resolutions: (n_fft, hop_length, win_length) of each, in samples; Hann windows.
        eps: smallest magnitude.
    """

    matched_only = True

    def __init__(
        self,
        resolutions: Annotated[tuple[Resolution, ...], Field(min_length=1)] = (
            (1024, 120, 600),
            (2048, 240, 1200),
            (512, 50, 240),
        ),
        eps: PositiveFloat = 1e-7,
    ) -> None:
        super().__init__()
        for n_fft, _, win_length in resolutions:
            if win_length > n_fft:
                raise ConfigError(f"resolutions: a win_length of {win_length} does not fit an n_fft of {n_fft}")
        self.resolutions, self.eps = resolutions, eps

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        if not pair.matched or _is_silent(pair.reference):
            return None
        a, b = pair.same_length()
        distance = 0.0
        for resolution in self.resolutions:
            x, y = self._magnitude(a, resolution), self._magnitude(b, resolution)
            convergence = torch.linalg.norm(x - y) / torch.linalg.norm(x)
            distance += float(convergence + (x.log() - y.log()).abs().mean())
        return distance / len(self.resolutions), 1.0

    def _magnitude(self, waveform: Tensor, resolution: tuple[int, int, int]) -> Tensor:
        n_fft, hop_length, win_length = resolution
        waveform = _lengthened(waveform, n_fft)
        window = torch.hann_window(win_length)
        return (
            torch.stft(waveform, n_fft, hop_length, win_length, window, return_complex=True).abs().clamp(min=self.eps)
        )


@METRICS.register()
class STOI(MeanMetric):
    """Short-time objective intelligibility, up to 1, the more the better (Taal et al. 2011, "An Algorithm for
    Intelligibility Prediction of Time-Frequency Weighted Noisy Speech"), by the package pystoi, at 10 kHz.

    Matched pairs with at least 0.4 s of speech only; others are skipped.

    Args:
        extended: ESTOI (Jensen and Taal 2016), which also notices modulated noise.
    """

    best = 1.0

    matched_only = True

    def __init__(self, extended: bool = False) -> None:
        super().__init__()
        self.extended = extended
        try:
            import pystoi
        except ImportError as error:
            raise MissingPackageError("STOI", "pystoi") from error
        self._stoi = pystoi.stoi

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        if not pair.matched:
            return None
        a, b = (waveform.double().numpy() for waveform in pair.same_length())
        if _is_silent(pair.reference):  # it would be compared with pystoi's own rounding guard
            return None
        try:
            with warnings.catch_warnings():
                # With too few frames of speech it would warn and return a constant.
                warnings.simplefilter("error", RuntimeWarning)
                value = float(self._stoi(a, b, pair.sample_rate, extended=self.extended))
        except (RuntimeWarning, ValueError):
            return None
        return None if math.isnan(value) else (value, 1.0)


@lru_cache(maxsize=4)
def _features(
    sample_rate: int, n_fft: int, hop_length: int, n_mels: int, f_max: float, eps: float
) -> LogMelSpectrogram:
    return LogMelSpectrogram(
        sample_rate,
        n_fft,
        n_fft,
        hop_length,
        n_mels,
        f_max=f_max,
        power=1,
        mel_scale="slaney",
        norm="slaney",
        eps=eps,
        normalize="none",
    )


def _is_silent(waveform: Tensor) -> bool:
    """Whether no sample exceeds `_SILENCE`; what such a recording says cannot be compared relative to its level."""
    return len(waveform) == 0 or float(waveform.abs().max()) < _SILENCE


def _lengthened(waveform: Tensor, n_samples: int) -> Tensor:
    """At least so many samples, with zeros behind."""
    return F.pad(waveform, (0, max(0, n_samples - len(waveform))))

"""The one log-mel spectrogram of the project: recognizers, synthesizers and vocoders differ in its arguments only."""

import inspect
import math
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat
from torch import Tensor, nn

from hw_base.config.schema import SampleRate, Size
from hw_base.errors import ConfigError, DataError
from hw_base.registry import FEATURES

MelScale = Literal["htk", "slaney"]
FrameCount = TypeVar("FrameCount", int, Tensor)

# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz with 15 mel, then 27 logarithmic steps up to 6.4 kHz.
_SLANEY_HZ_PER_MEL = 200.0 / 3.0
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_LOG_STEP = math.log(6.4) / 27.0

# The square root of a silent bin would have an infinite gradient; far below every useful `eps`.
_SMALLEST_POWER = 1e-14
# Natural-log units: a bin that only rounding makes vary (above the cut-off of an MP3) stays at 0.
_SMALLEST_STD = 1e-2


def hz_to_mel(hz: Tensor, scale: MelScale) -> Tensor:
    """Frequencies in Hz on a mel scale: O'Shaughnessy's formula as in HTK, or Slaney's piecewise one."""
    if scale == "htk":
        return 2595.0 * torch.log10(1.0 + hz / 700.0)
    knee = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
    above = knee + torch.log(hz.clamp(min=_SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return torch.where(hz < _SLANEY_KNEE_HZ, hz / _SLANEY_HZ_PER_MEL, above)


def mel_to_hz(mel: Tensor, scale: MelScale) -> Tensor:
    """The inverse of `hz_to_mel`."""
    if scale == "htk":
        return 700.0 * (torch.pow(10.0, mel / 2595.0) - 1.0)
    knee = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
    above = _SLANEY_KNEE_HZ * torch.exp(_SLANEY_LOG_STEP * (mel - knee).clamp(min=0.0))
    return torch.where(mel < knee, mel * _SLANEY_HZ_PER_MEL, above)


def mel_filter_bank(
    sample_rate: int,
    n_fft: int,
    n_mels: int,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: MelScale = "htk",
    norm: Literal["slaney"] | None = None,
) -> Tensor:
    """Triangular filters, equally spaced in mel.

    Args:
        sample_rate: in Hz.
        n_fft: length of the DFT.
        n_mels: how many filters.
        f_min: lower edge of the first filter, in Hz.
        f_max: upper edge of the last filter, in Hz; None is half the sample rate.
        mel_scale: see `hz_to_mel`.
        norm: ``slaney`` gives every filter the area 1 (over Hz); None gives it the height 1.

    Returns:
        Tensor: (n_mels, n_fft // 2 + 1), float32.
    """
    edges_hz = torch.tensor([f_min, sample_rate / 2 if f_max is None else f_max], dtype=torch.float64)
    low, high = hz_to_mel(edges_hz, mel_scale).tolist()
    edges = mel_to_hz(torch.linspace(low, high, n_mels + 2, dtype=torch.float64), mel_scale)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * (sample_rate / n_fft)
    left, center, right = (edge.unsqueeze(1) for edge in (edges[:-2], edges[1:-1], edges[2:]))
    rising = (bins - left) / (center - left)
    falling = (right - bins) / (right - center)
    filters = torch.minimum(rising, falling).clamp(min=0.0)
    if norm == "slaney":
        filters = filters * (2.0 / (right - left))
    return filters.to(torch.float32)


@FEATURES.register()
class LogMelSpectrogram(nn.Module):
    """``log(max(mel, eps))`` of a waveform, optionally normalized; natural logarithm.

    An utterance gives the same frames alone and in a padded batch: reflection happens at its own end, the statistics
    are taken over its own frames, and the padded frames are set to 0 after the normalization.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_fft: length of the DFT, in samples.
        win_length: of the periodic Hann window, in samples; zero-padded to ``n_fft`` on both sides.
        hop_length: in samples.
        n_mels: F.
        f_min: in Hz.
        f_max: in Hz; None is half the sample rate.
        power: 2 takes the power spectrum, 1 the magnitude.
        mel_scale: ``htk`` or ``slaney``.
        norm: ``slaney`` gives filters of equal area, None of equal height.
        eps: smallest mel value before the logarithm.
        power_offset: added to the power spectrum; the public VITS programs add 1e-6 before they take the root, which
            shows in quiet bins.
        padding: ``center`` centers frame t on sample ``t * hop_length``, by reflection; ``same`` reflects only
            ``n_fft - hop_length`` samples in all, so that S samples give ``S // hop_length`` frames (HiFi-GAN's
            preprocessing); ``none`` takes complete frames only.
        normalize: to mean 0 and standard deviation 1 over each utterance's frames: ``utterance`` over all bins
            together, ``per_bin`` in each bin; ``none`` leaves the logarithms.

    Attributes:
        n_mels (int): F.
        min_samples (int): the shortest waveform that gives a frame.

    Raises:
        ConfigError: arguments that contradict each other.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: SampleRate = 16000,
        n_fft: Size = 512,
        win_length: Size = 400,
        hop_length: Size = 160,
        n_mels: Size = 80,
        f_min: NonNegativeFloat = 0.0,
        f_max: PositiveFloat | None = None,
        power: Annotated[int, Field(ge=1, le=2)] = 2,
        mel_scale: MelScale = "htk",
        norm: Literal["slaney"] | None = None,
        eps: PositiveFloat = 1e-6,
        padding: Literal["center", "same", "none"] = "center",
        normalize: Literal["none", "utterance", "per_bin"] = "per_bin",
        power_offset: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        self.sample_rate, self.n_fft, self.win_length, self.hop_length = sample_rate, n_fft, win_length, hop_length
        self.n_mels, self.power, self.eps, self.normalize = n_mels, power, eps, normalize
        self.power_offset = power_offset
        self.f_min, self.f_max, self.mel_scale, self.norm, self.padding = f_min, f_max, mel_scale, norm, padding
        _check_lengths(n_fft, win_length, hop_length, padding)
        _check_band(sample_rate, f_min, f_max)
        total = {"center": 2 * (n_fft // 2), "same": n_fft - hop_length, "none": 0}[padding]
        self._left, self._right = total // 2, total - total // 2
        # A reflection of n samples needs n + 1 of them.
        self.min_samples = max(n_fft - total, self._right + 1 if total else 1)
        # Constants, computed from the arguments: a checkpoint has no use for them.
        self.register_buffer("window", torch.hann_window(win_length), persistent=False)
        filters = mel_filter_bank(sample_rate, n_fft, n_mels, f_min, f_max, mel_scale, norm)
        empty = (filters.sum(dim=1) == 0).nonzero().flatten().tolist()
        if empty:
            raise ConfigError(
                f"features: {len(empty)} of {n_mels} mel filters lie between two bins of the DFT and would always be "
                f"empty (the first: {empty[0]}); take a smaller n_mels or an n_fft above {n_fft}"
            )
        self.register_buffer("filters", filters, persistent=False)

    def constants(self) -> dict[str, Any]:
        """Every argument by name: what a model that was trained on these spectrograms depends on."""
        return {name: getattr(self, name) for name in inspect.signature(LogMelSpectrogram).parameters}

    def frames(self, n_samples: FrameCount) -> FrameCount:
        """T for S samples: a number, or a tensor of lengths (B,)."""
        return (n_samples + (self._left + self._right - self.n_fft)) // self.hop_length + 1

    def forward(self, waveform: Tensor, waveform_length: Tensor | None = None) -> Tensor:
        """Log-mel spectrogram, always computed in float32.

        Args:
            waveform: (S,) or (B, S).
            waveform_length: (B,), in samples; None means that nothing is padded. What lies beyond is never read.

        Returns:
            Tensor: (F, T) or (B, F, T), float32; row b has ``frames(waveform_length[b])`` frames, then zeros.

        Raises:
            DataError: a waveform is too short for one frame.
        """
        if waveform.dim() == 1:
            batch: Tensor = self(waveform.unsqueeze(0))
            return batch.squeeze(0)
        shortest = waveform.shape[-1]
        if waveform_length is not None and waveform_length.device.type == "cpu":
            # Reading a length that lives on an accelerator would wait for everything queued there.
            shortest = int(waveform_length.min())
        if shortest < self.min_samples:
            raise DataError(f"features: a waveform of {shortest} samples; at least {self.min_samples} are needed")
        with torch.autocast(waveform.device.type, enabled=False):
            log_mel = self._log_mel(self._power_spectrum(self._padded(waveform.float(), waveform_length)))
            mask = None if waveform_length is None else self._mask(log_mel, waveform_length)
            return self._normalized(log_mel, mask)

    def _padded(self, waveform: Tensor, waveform_length: Tensor | None) -> Tensor:
        """Reflect both ends of every row, the right one at the row's own length."""
        if self._left + self._right == 0:
            return waveform
        if waveform_length is None:
            # Of few samples: a third of the time of torch's own reflection.
            left, right = waveform[:, 1 : self._left + 1], waveform[:, -self._right - 1 : -1]
            return torch.cat([left.flip(1), waveform, right.flip(1)], dim=1)
        n_samples = waveform.shape[1]
        position = torch.arange(-self._left, n_samples + self._right, device=waveform.device).abs()
        last = waveform_length.to(waveform.device, non_blocking=True).unsqueeze(1) - 1
        # Positions beyond the reflected end belong to masked frames alone; they only must be legal.
        source = torch.where(position > last, 2 * last - position, position).clamp(min=0)
        return waveform.gather(1, source)

    def _power_spectrum(self, padded: Tensor) -> Tensor:
        """(B, S) -> (B, n_fft // 2 + 1, T)."""
        spectrum = torch.stft(
            padded, self.n_fft, self.hop_length, self.win_length, self.window, center=False, return_complex=True
        )
        squares = torch.view_as_real(spectrum).square()  # in one pass over the memory
        return squares[..., 0] + squares[..., 1]

    def _log_mel(self, energy: Tensor) -> Tensor:
        """(B, n_fft // 2 + 1, T), powers -> (B, F, T)."""
        energy = energy + self.power_offset
        if self.power == 1:
            energy = energy.clamp(min=_SMALLEST_POWER).sqrt()
        return torch.matmul(self.filters, energy).clamp(min=self.eps).log()

    def _mask(self, log_mel: Tensor, waveform_length: Tensor) -> Tensor:
        """(B, 1, T), true where the utterance is."""
        frame = torch.arange(log_mel.shape[-1], device=log_mel.device)
        n_frames = self.frames(waveform_length.to(log_mel.device, non_blocking=True))
        return (frame < n_frames.unsqueeze(1)).unsqueeze(1)

    def _normalized(self, log_mel: Tensor, mask: Tensor | None) -> Tensor:
        if self.normalize != "none":
            dims = (1, 2) if self.normalize == "utterance" else (2,)
            centered = log_mel - _mean(log_mel, dims, mask)
            variance = _mean(centered.square(), dims, mask)
            log_mel = centered / variance.sqrt().clamp(min=_SMALLEST_STD)
        return log_mel if mask is None else log_mel.masked_fill(~mask, 0.0)


def _mean(x: Tensor, dims: tuple[int, ...], mask: Tensor | None) -> Tensor:
    """Over the valid frames, (B, 1, T), of (B, F, T); the axes stay."""
    if mask is None:
        return x.mean(dim=dims, keepdim=True)
    count = mask.sum(dim=2, keepdim=True) * (x.shape[1] if 1 in dims else 1)
    return (x * mask.to(x.dtype)).sum(dim=dims, keepdim=True) / count


def _check_lengths(n_fft: int, win_length: int, hop_length: int, padding: str) -> None:
    if win_length > n_fft:
        raise ConfigError(f"features: win_length {win_length} must not exceed n_fft {n_fft}")
    if padding == "same" and hop_length > n_fft:
        raise ConfigError(f"features: padding 'same' needs a hop_length of at most n_fft {n_fft}, found {hop_length}")


def _check_band(sample_rate: int, f_min: float, f_max: float | None) -> None:
    nyquist = sample_rate / 2
    if f_max is not None and f_max > nyquist:
        raise ConfigError(f"features: f_max {f_max:g} Hz is above half the sample rate, {nyquist:g} Hz")
    top = nyquist if f_max is None else f_max
    if f_min >= top:
        raise ConfigError(f"features: f_min {f_min:g} Hz must lie below f_max, {top:g} Hz")

"""Level, noise, clipping and band limits of a waveform."""

import math
from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from hw_asr.augmentations import dsp
from hw_asr.augmentations.base import BaseAugmentation, Probability, check_range, uniform
from hw_asr.augmentations.folder import SoundFolder
from hw_base.config.schema import PathText
from hw_base.registry import AUGMENTATIONS


class WaveformAugmentation(BaseAugmentation):
    """An augmentation of samples, (S,)."""

    domain: ClassVar[Literal["waveform", "spectrogram"]] = "waveform"


@AUGMENTATIONS.register()
class Gain(WaveformAugmentation):
    """Louder or quieter. Samples may leave [-1, 1]; `Clipping` is an augmentation of its own.

    Args:
        min_db: least gain, in dB.
        max_db: largest gain, in dB.
        p: probability with which a waveform is changed.
    """

    def __init__(self, min_db: float = -12.0, max_db: float = 6.0, p: Probability = 0.5) -> None:
        super().__init__(p)
        check_range(self, "db", min_db, max_db)
        self.min_db = min_db
        self.max_db = max_db

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x * math.pow(10.0, uniform(self.min_db, self.max_db, generator) / 20.0)


class NoiseAugmentation(WaveformAugmentation):
    """Adds a sound, at a ratio of power that is drawn between two bounds.

    Args:
        min_snr: least ratio of the waveform's power to the noise's, in dB.
        max_snr: largest ratio, in dB.
        p: probability with which a waveform is changed.
    """

    def __init__(self, min_snr: float, max_snr: float, p: float) -> None:
        super().__init__(p)
        check_range(self, "snr", min_snr, max_snr)
        self.min_snr = min_snr
        self.max_snr = max_snr


@AUGMENTATIONS.register()
class ColoredNoise(NoiseAugmentation):
    """Gaussian noise with a power spectrum of ``1 / frequency ** exponent`` (Timmer and Koenig, 1995).

    Args:
        min_snr: least ratio of the waveform's power to the noise's, in dB.
        max_snr: largest ratio, in dB.
        min_exponent: -2 is violet, -1 blue, 0 white noise.
        max_exponent: 1 is pink, 2 brown noise.
        p: probability with which a waveform is changed.
    """

    def __init__(
        self,
        min_snr: float = 5.0,
        max_snr: float = 30.0,
        min_exponent: float = -1.0,
        max_exponent: float = 2.0,
        p: Probability = 0.5,
    ) -> None:
        super().__init__(min_snr, max_snr, p)
        check_range(self, "exponent", min_exponent, max_exponent)
        self.min_exponent = min_exponent
        self.max_exponent = max_exponent

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        snr = uniform(self.min_snr, self.max_snr, generator)
        exponent = uniform(self.min_exponent, self.max_exponent, generator)
        return dsp.mix(x, colored_noise(len(x), exponent, generator).to(x.device), snr)


@AUGMENTATIONS.register()
class BackgroundNoise(NoiseAugmentation):
    """A recording from a folder in the background; a random part of it, repeated where it is too short.

    Args:
        folder: of audio files of any rate, sub-folders included.
        sample_rate: of the waveforms, in Hz.
        min_snr: least ratio of the waveform's power to the noise's, in dB.
        max_snr: largest ratio, in dB.
        p: probability with which a waveform is changed.
    """

    def __init__(
        self,
        folder: PathText,
        sample_rate: PositiveInt,
        min_snr: float = 5.0,
        max_snr: float = 25.0,
        p: Probability = 0.5,
    ) -> None:
        super().__init__(min_snr, max_snr, p)
        self.sounds = SoundFolder(folder, sample_rate, type(self).__name__)

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        noise = self.sounds.draw(generator)
        snr = uniform(self.min_snr, self.max_snr, generator)
        if len(noise) <= len(x):
            start = int(torch.randint(len(noise), (), generator=generator))
            noise = noise.repeat(len(x) // len(noise) + 2)
        else:
            start = int(torch.randint(len(noise) - len(x) + 1, (), generator=generator))
        return dsp.mix(x, noise[start : start + len(x)].to(x.device), snr)


@AUGMENTATIONS.register()
class Clipping(WaveformAugmentation):
    """Cut off the peaks, as an overloaded microphone does.

    Args:
        min_level: least level of the cut, as a fraction of the highest peak.
        max_level: highest level of the cut, as a fraction of the highest peak.
        p: probability with which a waveform is changed.
    """

    def __init__(self, min_level: Probability = 0.3, max_level: Probability = 0.9, p: Probability = 0.2) -> None:
        super().__init__(p)
        check_range(self, "level", min_level, max_level)
        self.min_level = min_level
        self.max_level = max_level

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        level = uniform(self.min_level, self.max_level, generator) * float(x.abs().max())
        return x.clamp(-level, level)


@AUGMENTATIONS.register()
class BandPass(WaveformAugmentation):
    """Weaken what lies outside a band, as telephones and cheap microphones do.

    The filter has the amplitude response of a Butterworth filter and no phase: nothing moves in time.

    Args:
        sample_rate: of the waveforms, in Hz.
        min_low: least lower edge of the band (-3 dB), in Hz.
        max_low: highest lower edge, in Hz.
        min_high: least upper edge of the band (-3 dB), in Hz.
        max_high: highest upper edge, in Hz.
        order: of the filter; the slopes fall by 6 dB in an octave for each.
        p: probability with which a waveform is changed.
    """

    def __init__(
        self,
        sample_rate: PositiveInt,
        min_low: PositiveFloat = 50.0,
        max_low: PositiveFloat = 400.0,
        min_high: PositiveFloat = 3000.0,
        max_high: PositiveFloat = 7500.0,
        order: PositiveInt = 4,
        p: Probability = 0.2,
    ) -> None:
        super().__init__(p)
        check_range(self, "low", min_low, max_low)
        check_range(self, "high", min_high, max_high)
        self.sample_rate = sample_rate
        self.min_low = min_low
        self.max_low = max_low
        self.min_high = min_high
        self.max_high = max_high
        self.order = order

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        low = uniform(self.min_low, self.max_low, generator)
        high = uniform(self.min_high, self.max_high, generator)
        # Silence behind the signal takes up what the circular convolution would wrap around: two periods of the edge.
        size = dsp.fast_length(len(x) + int(2 * self.sample_rate / low))
        frequency = torch.fft.rfftfreq(size, 1 / self.sample_rate, device=x.device)
        # (low / f) ** 2 order is infinite at f = 0, which rsqrt turns into the 0 that is due.
        stop_low = (low / frequency) ** (2 * self.order)
        stop_high = (frequency / high) ** (2 * self.order)
        response = ((1 + stop_low) * (1 + stop_high)).rsqrt()
        filtered: Tensor = torch.fft.irfft(torch.fft.rfft(x, size) * response, size)
        return filtered[: len(x)]


def colored_noise(n: int, exponent: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of ``n`` samples with a power spectrum of ``1 / frequency ** exponent`` and no offset; (n,)."""
    size = dsp.fast_length(max(n, 2))
    bins = torch.randn(size // 2 + 1, 2, generator=generator)
    shape = torch.arange(size // 2 + 1, dtype=torch.float32).clamp(min=1.0) ** (-exponent / 2)
    shape[0] = 0.0
    noise: Tensor = torch.fft.irfft(torch.view_as_complex(bins) * shape, size)
    return noise[:n]

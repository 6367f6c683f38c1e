"""Speed, which changes length and pitch together, and pitch alone."""

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from hw_asr.augmentations import dsp
from hw_asr.augmentations.base import Probability, check_range, uniform
from hw_asr.augmentations.waveform import WaveformAugmentation
from hw_base.audio import io as audio
from hw_base.errors import ConfigError
from hw_base.registry import AUGMENTATIONS

# Resampling costs products per sample in proportion to the numbers of the ratio. Steps near 1 are 0.27 semitones.
MAX_DENOMINATOR = 64


@AUGMENTATIONS.register()
class SpeedPerturbation(WaveformAugmentation):
    """Play faster or slower by one of a few factors (Ko et al., 2015, "Audio Augmentation for Speech Recognition").

    The result has ``ceil(S / factor)`` samples: lengths are taken after augmentation.

    Args:
        factors: above 1 is faster, shorter and higher; each is equally likely.
        p: probability with which a factor is drawn.

    Attributes:
        speeds (list[Fraction]): all that a waveform may be given.
    """

    keeps_length = False

    def __init__(self, factors: Sequence[PositiveFloat] = (0.9, 1.0, 1.1), p: Probability = 1.0) -> None:
        super().__init__(p)
        self.factors = list(factors)
        if not self.factors:
            raise ConfigError("SpeedPerturbation: factors is empty; leave it out for 0.9, 1.0 and 1.1")
        self._ratios = [Fraction(factor).limit_denominator(100) for factor in self.factors]
        for factor, ratio in zip(self.factors, self._ratios, strict=True):
            if abs(ratio - Fraction(factor)) > Fraction(1, 10**6):
                raise ConfigError(f"SpeedPerturbation: factor {factor!r} is not a multiple of 0.01")
        self.speeds = list(dict.fromkeys([*self._ratios, *([Fraction(1)] if p < 1.0 else [])]))

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.at(x, self._draw(generator))

    def choose(self, generator: torch.Generator) -> Fraction:
        """Draw as a call does, without a waveform: which of the `speeds` it is given; `at` gives it that."""
        return self._draw(generator) if self.changes(generator) else Fraction(1)

    def at(self, x: Tensor, speed: Fraction) -> Tensor:
        """A waveform (S,) at one speed."""
        return audio.resample(x, speed.numerator, speed.denominator)

    def _draw(self, generator: torch.Generator) -> Fraction:
        return self._ratios[int(torch.randint(len(self._ratios), (), generator=generator))]


@AUGMENTATIONS.register()
class PitchShift(WaveformAugmentation):
    """Move the pitch, and the formants with it, without changing the length.

    A phase vocoder stretches the waveform by a ratio of small numbers, resampling by the same ratio undoes the length.

    Args:
        sample_rate: of the waveforms, in Hz.
        min_semitones: lowest shift.
        max_semitones: highest shift.
        p: probability with which a waveform is changed.
    """

    def __init__(
        self,
        sample_rate: PositiveInt,
        min_semitones: float = -3.0,
        max_semitones: float = 3.0,
        p: Probability = 0.3,
    ) -> None:
        super().__init__(p)
        check_range(self, "semitones", min_semitones, max_semitones)
        if max(abs(min_semitones), abs(max_semitones)) > 12.0:
            raise ConfigError("PitchShift: shifts by more than 12 semitones do not leave speech intelligible")
        self.min_semitones = min_semitones
        self.max_semitones = max_semitones
        # The power of two nearest to 32 ms, long enough to resolve the harmonics of a low voice.
        self.n_fft = 1 << round(math.log2(0.032 * sample_rate))

    def apply(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return shift_pitch(x, uniform(self.min_semitones, self.max_semitones, generator), self.n_fft)


def shift_pitch(x: Tensor, semitones: float, n_fft: int) -> Tensor:
    """Move the pitch by a number of semitones, rounded to a ratio of numbers up to `MAX_DENOMINATOR`.

    Args:
        x (Tensor): (S,).
        semitones: 12 double every frequency.
        n_fft: of the phase vocoder, in samples; about 32 ms.

    Returns:
        Tensor: (S,).
    """
    ratio = Fraction(2.0 ** (semitones / 12.0)).limit_denominator(MAX_DENOMINATOR)
    if ratio == 1:
        return x
    # Silence at the end, so that what the vocoder leaves out of the last frame is padding.
    padded = torch.nn.functional.pad(x, (0, max(n_fft - len(x), 0) + n_fft))
    return audio.resample(dsp.stretch(padded, ratio, n_fft), ratio.numerator, ratio.denominator)[: len(x)]

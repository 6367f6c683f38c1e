"""The analysis that metrics share: pitch and mel-cepstra of both waveforms of a pair, and which frames correspond.

Spectral envelopes and pitch are those of WORLD (Morise et al. 2016, "WORLD: A Vocoder-Based High-Quality Speech
Synthesis System for Real-Time Applications").
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from hw_base.audio import io as audio
from hw_base.errors import MissingPackageError
from hw_tts.metrics.cepstra import mel_alpha, mel_cepstra
from hw_tts.metrics.warping import Path, warping_path

Floats = NDArray[np.float64]

FRAME_SECONDS = 0.005
# Shorter waveforms are followed by silence: WORLD needs a few periods.
_LEAST_SECONDS = 0.1
# What the textbook's logarithm is taken of at least; far below the floor that WORLD itself adds.
_LEAST_POWER = 1e-16


class Recipe(NamedTuple):
    """How mel-cepstra are taken.

    Attributes:
        sample_rate: waveforms are resampled to it, in Hz; None takes them as they are.
        n_fft: of the envelope; None is WORLD's own choice for the rate.
        order: of the last coefficient.
        alpha: of the warping; None is nearest to mel at the rate.
        squared: the power is used as an amplitude, so that all coefficients are doubled; 1e-8 is added to its square.
    """

    sample_rate: int | None
    n_fft: int | None
    order: int
    alpha: float | None
    squared: bool


PYMCD = Recipe(sample_rate=22050, n_fft=512, order=13, alpha=0.65, squared=True)
TEXTBOOK = Recipe(sample_rate=None, n_fft=None, order=24, alpha=None, squared=False)


class Voice(NamedTuple):
    """A waveform's frames, `FRAME_SECONDS` apart.

    Attributes:
        f0: in Hz, 0 where unvoiced, (T,).
        cepstra: (T, order + 1), the gain first.
    """

    f0: Floats
    cepstra: Floats


class Alignment(NamedTuple):
    """Two voices and the frames of theirs that correspond, both (N,); by the cepstra without the gain."""

    reference: Voice
    synthesized: Voice
    path: Path


def analyze(waveform: Tensor, sample_rate: int, recipe: Recipe) -> Voice:
    """Pitch by Dio and StoneMask, envelope by CheapTrick, warped to mel-cepstra.

    Args:
        waveform: (S,), float.
        sample_rate: in Hz.
        recipe: of the cepstra.

    Raises:
        MissingPackageError: without pyworld.
    """
    pyworld = _pyworld()
    rate = recipe.sample_rate or sample_rate
    waveform = audio.resample(waveform, sample_rate, rate)
    samples = F.pad(waveform, (0, max(0, round(_LEAST_SECONDS * rate) - len(waveform)))).double().numpy()
    coarse, times = pyworld.dio(samples, rate, frame_period=1000 * FRAME_SECONDS)
    f0 = pyworld.stonemask(samples, coarse, times, rate)
    power = pyworld.cheaptrick(samples, f0, times, rate, fft_size=recipe.n_fft)
    power = np.square(power) + 1e-8 if recipe.squared else np.maximum(power, _LEAST_POWER)
    alpha = mel_alpha(rate) if recipe.alpha is None else recipe.alpha
    return Voice(f0, mel_cepstra(power, recipe.order, alpha))


def align(reference: Tensor, synthesized: Tensor, sample_rate: int, recipe: Recipe) -> Alignment:
    """Analyze both waveforms and find their frames that correspond."""
    a, b = (analyze(waveform, sample_rate, recipe) for waveform in (reference, synthesized))
    return Alignment(a, b, warping_path(a.cepstra[:, 1:], b.cepstra[:, 1:]))


def _pyworld() -> ModuleType:
    try:
        import pyworld
    except ImportError as error:
        raise MissingPackageError("comparing spectral envelopes and pitch", "pyworld") from error
    module: ModuleType = pyworld
    return module

"""Pitch and timing."""

import math

import numpy as np
from pydantic import PositiveInt

from hw_base.errors import DataError
from hw_base.registry import METRICS
from hw_tts.metrics.base import MeanMetric, Pair


@METRICS.register()
class LogF0RMSE(MeanMetric):
    """Root mean square difference of the natural logarithm of F0, over all frames of `MCD`'s path that are voiced in
    both; 0 is perfect, 0.058 is a semitone. A pair without such frames is skipped.
    """

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        reference, synthesized = aligned_f0(pair)
        voiced = (reference > 0) & (synthesized > 0)
        if not voiced.any():
            return None
        difference = np.log(reference[voiced]) - np.log(synthesized[voiced])
        return float(np.square(difference).sum()), float(voiced.sum())

    def compute(self) -> float:
        """The root of the mean."""
        return math.sqrt(super().compute())


@METRICS.register()
class VoicingError(MeanMetric):
    """Share of the frames of `MCD`'s path that are voiced in one of the two only; 0 is perfect."""

    def measure(self, pair: Pair) -> tuple[float, float]:
        reference, synthesized = aligned_f0(pair)
        return float(((reference > 0) != (synthesized > 0)).sum()), float(len(reference))


@METRICS.register()
class DurationError(MeanMetric):
    """Mean absolute difference between the symbols' durations, over all symbols; 0 is perfect.

    Skips pairs that lack either durations; with the recording's own durations in use it is 0 by construction.

    Args:
        hop_length: samples of a frame, gives the figure in milliseconds; None gives frames.
    """

    def __init__(self, hop_length: PositiveInt | None = None) -> None:
        super().__init__()
        self.hop_length = hop_length

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        if pair.reference_durations is None or pair.durations is None or not len(pair.durations):
            return None
        if pair.reference_durations.shape != pair.durations.shape:
            raise DataError(
                f"utterance {pair.utterance_id!r}: {len(pair.durations)} durations were predicted and "
                f"{len(pair.reference_durations)} belong to the recording; both must be those of the same symbols"
            )
        unit = 1.0 if self.hop_length is None else 1000.0 * self.hop_length / pair.sample_rate
        difference = (pair.reference_durations.double() - pair.durations.double()).abs()
        return unit * float(difference.sum()), float(difference.numel())


@METRICS.register()
class SpeakingRateError(MeanMetric):
    """Mean absolute difference between the lengths of both waveforms, relative to the recording's; 0 is perfect."""

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        if not len(pair.reference):
            return None
        return abs(len(pair.synthesized) - len(pair.reference)) / len(pair.reference), 1.0


def aligned_f0(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
    """F0 of both in Hz, 0 where unvoiced, over the frames of the path, both (N,)."""
    alignment = pair.alignment()
    i, j = alignment.path
    return alignment.reference.f0[i], alignment.synthesized.f0[j]

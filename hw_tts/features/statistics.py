"""Statistics of pitch and energy over a training split, in one pass; models normalize by them."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

# Tukey's fences: so many interquartile ranges beyond the quartiles a value is an outlier.
_FENCE = 1.5


class RunningStatistics:
    """Count, mean, standard deviation and range of values that come in pieces, in double precision.

    The pieces' means and sums of squares are merged as by Chan, Golub and LeVeque (1979), so that nothing is lost
    where the mean is large against the deviation.
    """

    def __init__(self) -> None:
        self.count, self.mean, self._squares = 0, 0.0, 0.0
        self.minimum, self.maximum = math.inf, -math.inf

    def update(self, values: Tensor) -> None:
        """Take in more values, of any shape."""
        if values.numel() == 0:
            return
        values = values.to(torch.float64)
        count, mean = values.numel(), float(values.mean())
        total, shift = self.count + count, mean - self.mean
        self._squares += float((values - mean).square().sum()) + shift * shift * self.count * count / total
        self.mean += shift * count / total
        self.count = total
        self.minimum, self.maximum = min(self.minimum, float(values.min())), max(self.maximum, float(values.max()))

    @property
    def std(self) -> float:
        """Of the values as a whole population; 0 where there are none."""
        return math.sqrt(self._squares / self.count) if self.count else 0.0


class FeatureStatistics:
    """Statistics of pitch and energy over utterances."""

    def __init__(self) -> None:
        self.pitch, self.pitch_log, self.energy = RunningStatistics(), RunningStatistics(), RunningStatistics()

    def update(self, item: Mapping[str, Tensor]) -> None:
        """Take in one utterance: ``pitch`` (T,) in Hz, ``energy`` (T,), and ``voiced`` (T,) if it is known.

        Pitch counts on voiced frames only (those above 0 Hz where ``voiced`` is missing), energy on all frames.
        Of each utterance, values beyond Tukey's fences (1.5 interquartile ranges outside the quartiles) are left out:
        octave errors of the tracker and clicks would widen the range of every model that quantizes.
        """
        pitch = item["pitch"].double()
        voiced = item.get("voiced", pitch > 0) & (pitch > 0)
        pitch = without_outliers(pitch[voiced])
        self.pitch.update(pitch)
        self.pitch_log.update(pitch.log())
        self.energy.update(without_outliers(item["energy"].double()))

    def values(self) -> dict[str, float]:
        """``pitch_mean``, ``pitch_std``, ``pitch_min``, ``pitch_max`` in Hz, ``pitch_log_mean`` and
        ``pitch_log_std`` of its natural logarithm, and ``energy_mean``, ``_std``, ``_min``, ``_max``.

        What was never seen has mean 0, deviation 1 and the range from 0 to 0.
        """
        found = {}
        for name, part in (("pitch", self.pitch), ("pitch_log", self.pitch_log), ("energy", self.energy)):
            found[f"{name}_mean"] = part.mean
            # Constant values: dividing by 1 leaves them at 0, dividing by 0 would not.
            found[f"{name}_std"] = part.std or 1.0
            if name != "pitch_log":
                found[f"{name}_min"] = part.minimum if part.count else 0.0
                found[f"{name}_max"] = part.maximum if part.count else 0.0
        return found


def collect(items: Iterable[Mapping[str, Tensor]]) -> dict[str, float]:
    """Statistics over all utterances; see `FeatureStatistics.update` and `.values`."""
    statistics = FeatureStatistics()
    for item in items:
        statistics.update(item)
    return statistics.values()


def collect_by_speaker(items: Iterable[tuple[str, Mapping[str, Tensor]]]) -> dict[str, dict[str, float]]:
    """Statistics of each speaker, from pairs of speaker and utterance; in order of the speakers' first occurrence."""
    speakers: dict[str, FeatureStatistics] = {}
    for speaker, item in items:
        speakers.setdefault(speaker, FeatureStatistics()).update(item)
    return {speaker: statistics.values() for speaker, statistics in speakers.items()}


def without_outliers(values: Tensor) -> Tensor:
    """The values within Tukey's fences: (N,) -> (N',)."""
    if values.numel() == 0:
        return values
    # By sorting: `torch.quantile` refuses more than 16 million values.
    low, high = (float(torch.sort(values).values[round(fraction * (len(values) - 1))]) for fraction in (0.25, 0.75))
    reach = _FENCE * (high - low)
    return values[(values >= low - reach) & (values <= high + reach)]

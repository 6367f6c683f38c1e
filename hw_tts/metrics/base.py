"""What metrics of synthesis are given, and what they have in common."""

import logging
import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hw_base.errors import DataError
from hw_base.metrics import BaseMetric
from hw_tts.metrics.world import PYMCD, Alignment, Recipe, align

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Pair:
    """A recording and what was synthesized of its text.

    Attributes:
        reference (Tensor): recording, (S,), float.
        synthesized (Tensor): (S',), float; nothing at all counts as silence.
        sample_rate: of both, in Hz.
        text: what both say.
        speaker: name of the voice; None where there is but one.
        utterance_id: for messages.
        reference_durations (Tensor): frames of each symbol in the recording, (L,); None if they are not known.
        durations (Tensor): frames of each symbol in the synthesis, (L,); None for a model without durations.
        matched: both have the same timing, because the recording's durations were used or its spectrogram was.
        transcripts: what recognizers heard, kept for further metrics that ask the same one.

    Raises:
        DataError: not waveforms of finite numbers.
    """

    reference: Tensor
    synthesized: Tensor
    sample_rate: int
    text: str = ""
    speaker: str | None = None
    utterance_id: str = ""
    reference_durations: Tensor | None = None
    durations: Tensor | None = None
    matched: bool = False
    transcripts: dict[tuple[str, ...], str] = field(default_factory=dict, init=False, repr=False)
    _alignments: dict[Recipe, Alignment] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, given in (("reference", self.reference), ("synthesized", self.synthesized)):
            waveform = given.detach().to("cpu", torch.float32)
            if waveform.dim() != 1 or not bool(torch.isfinite(waveform).all()):
                found = f"shape {tuple(waveform.shape)}" if waveform.dim() != 1 else "NaN or infinite samples"
                raise DataError(f"utterance {self.utterance_id!r}: metrics need a finite {name} (S,), found {found}")
            setattr(self, name, waveform)

    def waveform(self, which: Literal["synthesized", "reference"]) -> Tensor:
        """One of the two waveforms (S,)."""
        return self.reference if which == "reference" else self.synthesized

    def alignment(self, recipe: Recipe = PYMCD) -> Alignment:
        """Both analyzed and aligned frame by frame; done once for all metrics that ask for it."""
        if recipe not in self._alignments:
            self._alignments[recipe] = align(self.reference, self.synthesized, self.sample_rate, recipe)
        return self._alignments[recipe]

    def same_length(self) -> tuple[Tensor, Tensor]:
        """Both waveforms of a matched pair, cut to the shorter one.

        Raises:
            DataError: they differ by more than a tenth of a second, so they cannot have the same timing.
        """
        n = min(len(self.reference), len(self.synthesized))
        surplus = max(len(self.reference), len(self.synthesized)) - n
        if surplus > 0.1 * self.sample_rate:
            raise DataError(
                f"utterance {self.utterance_id!r}: said to have the timing of the recording, but is "
                f"{len(self.synthesized)} samples long and the recording {len(self.reference)}"
            )
        return self.reference[:n], self.synthesized[:n]


class SynthesisMetric(BaseMetric):
    """A figure over pairs.

    Attributes:
        matched_only: it is defined for pairs of the same timing alone.
    """

    matched_only: ClassVar[bool] = False

    def prepare(self, pairs: Sequence[Pair]) -> None:
        """Do for several pairs together what is slow for each alone, before each is added."""

    @abstractmethod
    def update(self, pair: Pair) -> None:
        """Add a pair."""


class MeanMetric(SynthesisMetric):
    """A weighted mean over pairs; of the pairs it is not defined for it says how many there were.

    The figure of no pairs at all is NaN, never a number that looks like a result.
    """

    sum_names = ("sum", "weight", "pairs", "skipped")
    weight_name = "weight"

    @abstractmethod
    def measure(self, pair: Pair) -> tuple[float, float] | None:
        """A pair's share of the sum and its weight; None where the metric is not defined for it."""

    def update(self, pair: Pair) -> None:
        """Add a pair."""
        measured = self.measure(pair)
        if measured is None:
            self.totals += torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
        else:
            self.totals += torch.tensor([*measured, 1.0, 0.0], dtype=torch.float64)

    def compute(self) -> float:
        """The mean."""
        total, weight, pairs, skipped = self.totals.tolist()
        if not weight:
            log.warning("%s: not defined for any of %d pairs", type(self).__name__, round(pairs + skipped))
            return math.nan
        return float(total / weight)

"""What a measure of synthetic speech is given, and what it keeps."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hw_base.metrics import BaseMetric


@dataclass(frozen=True, eq=False)
class Pair:
    """One utterance as recorded and as synthesised.

    Attributes:
        reference: recording, (S,), float32.
        synthesized: (S',), float32.
        sample_rate: of both, in Hz.
        text: what is said.
        speaker: who says it.
        utterance_id: names it in messages.
        reference_durations: frames of each token in the recording, (L,); None where unknown.
        durations: frames of each token in the synthesis, (L,); None where unknown.
        matched: the synthesis has the recording's timing.
    """

    reference: Tensor
    synthesized: Tensor
    sample_rate: int
    text: str
    speaker: str
    utterance_id: str
    reference_durations: Tensor | None = None
    durations: Tensor | None = None
    matched: bool = False


class SynthesisMetric(BaseMetric):
    """A measure over pairs.

    Attributes:
        matched_only: it compares sample by sample or frame by frame, so it is given pairs of matched timing alone.
        deferred: what it adds up is made in `compute`, so that its sums say nothing before.
    """

    matched_only: ClassVar[bool] = False
    deferred: ClassVar[bool] = False

    @abstractmethod
    def update(self, pair: Pair) -> None:
        """Add one pair."""

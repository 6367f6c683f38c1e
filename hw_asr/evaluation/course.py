"""The score tables of the course "Deep Learning for Audio" (HSE), homework on recognition, editions 2024 and 2025."""

from dataclasses import dataclass
from typing import Literal

Course = Literal["ctc", "rnnt"]
CLEAN, OTHER = "test-clean", "test-other"


@dataclass(frozen=True)
class Threshold:
    """What a score asks for.

    Attributes:
        score: points out of 10.
        split: part of LibriSpeech.
        metric: which error rate.
        percent: it may be at most this.
    """

    score: float
    split: str
    metric: Literal["wer", "cer"]
    percent: float


_CTC_CER = ((2.0, CLEAN, 50.0), (3.0, CLEAN, 30.0), (4.0, CLEAN, 20.0))
_CTC_WER = (
    *((5.0, CLEAN, 40.0), (6.0, CLEAN, 30.0), (7.0, CLEAN, 20.0)),
    *((8.0, OTHER, 30.0), (8.5, OTHER, 25.0), (9.0, OTHER, 20.0), (9.5, OTHER, 15.0), (10.0, OTHER, 10.0)),
)
_RNNT_CER = ((2.0, CLEAN, 50.0), (3.0, CLEAN, 30.0), (4.0, CLEAN, 10.0))
_RNNT_WER = (
    *((5.0, CLEAN, 30.0), (6.0, CLEAN, 20.0), (7.0, CLEAN, 15.0)),
    *((8.0, OTHER, 25.0), (8.5, OTHER, 20.0), (9.0, OTHER, 15.0), (9.5, OTHER, 12.0), (10.0, OTHER, 8.0)),
)

TABLES: dict[str, tuple[Threshold, ...]] = {
    name: (
        *(Threshold(score, split, "cer", percent) for score, split, percent in cer),
        *(Threshold(score, split, "wer", percent) for score, split, percent in wer),
    )
    for name, cer, wer in (("ctc", _CTC_CER, _CTC_WER), ("rnnt", _RNNT_CER, _RNNT_WER))
}


def reached(threshold: Threshold, wer: float, cer: float) -> bool:
    """Whether error rates, as fractions, are within a threshold."""
    rate = wer if threshold.metric == "wer" else cer
    return round(100 * rate, 9) <= threshold.percent


def quality_score(course: Course, split: str, wer: float, cer: float) -> float:
    """The highest score that the error rates of one part of LibriSpeech reach.

    Args:
        course: ``ctc``, or ``rnnt`` for RNN-T and LAS models (their extra point is not in it).
        split: ``test-clean`` or ``test-other``.
        wer: corpus word error rate, a fraction.
        cer: corpus character error rate, a fraction.

    Returns:
        The score; 1 on test-clean where nothing is reached, which a working model gets, 0 on test-other.
    """
    floor = 1.0 if split == CLEAN else 0.0
    scores = [t.score for t in TABLES[course] if t.split == split and reached(t, wer, cer)]
    return max(scores, default=floor)

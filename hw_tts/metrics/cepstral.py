"""Distortion of the spectral envelope."""

import math
from typing import Literal

import numpy as np

from hw_base.registry import METRICS
from hw_tts.metrics.base import MeanMetric, Pair
from hw_tts.metrics.world import PYMCD, TEXTBOOK

# From a distance of natural-log cepstra to dB; both sides of the real cepstrum count.
DECIBEL = 10.0 / math.log(10.0) * math.sqrt(2.0)


@METRICS.register()
class MCD(MeanMetric):
    """Mel-cepstral distortion in dB, the less the better (Kubichek 1993, "Mel-cepstral distance measure for objective
    speech quality assessment"), after dynamic time warping: ``10 / ln 10 * sqrt(2) * mean |c - c'|`` over the path.

    Each pair counts once. Two definitions are known here, whose figures must not be compared with each other:

    - ``pymcd``: the numbers of the package of that name, mode ``dtw``, in which many papers report. At 22 050 Hz,
      WORLD's envelope of 512 points, order 13, alpha 0.65. That package takes the power for an amplitude, which doubles
      every coefficient, and counts the gain c_0 in the distance though not in the warping. Its path comes from an
      approximation (FastDTW); ours is exact, so its values lie a little above ours for utterances that differ much.
    - ``textbook``: at the pair's own rate, order 24, alpha nearest to the mel scale, without the gain, not doubled.

    Args:
        definition: see above.
    """

    def __init__(self, definition: Literal["pymcd", "textbook"] = "pymcd") -> None:
        super().__init__()
        self.definition = definition

    def measure(self, pair: Pair) -> tuple[float, float]:
        alignment = pair.alignment(PYMCD if self.definition == "pymcd" else TEXTBOOK)
        first = 0 if self.definition == "pymcd" else 1
        i, j = alignment.path
        difference = alignment.reference.cepstra[i, first:] - alignment.synthesized.cepstra[j, first:]
        return DECIBEL * float(np.sqrt(np.square(difference).sum(axis=1)).mean()), 1.0

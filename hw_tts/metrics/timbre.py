"""A voice in a few statistics, where no trained speaker encoder can be had."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.registry import METRICS
from hw_tts.metrics.base import MeanMetric, Pair
from hw_tts.metrics.world import Recipe, analyze

# Up to 6 kHz, which recordings of every rate have.
_RECIPE = Recipe(sample_rate=12000, n_fft=None, order=20, alpha=None, squared=False)
_LEAST_VOICED_FRAMES = 20

# c_1 to c_20 and log F0, means over voiced frames: of 15 utterances of the 5 speakers of LibriSpeech test-other ...
_MEAN = np.array([
    1.79, 0.40, 0.47, -0.11, 0.11, -0.13, 0.01, -0.10, 0.06, -0.08, 0.05, -0.06, 0.06, 0.01, -0.02, -0.01, 0.02, -0.04,
    -0.01, -0.02, 5.13,
])  # fmt: skip
# ... and their standard deviations between utterances of one speaker, of these 5 and of 20 speakers of dev-clean.
_WITHIN_SPEAKER = np.array([
    0.22, 0.15, 0.19, 0.16, 0.14, 0.10, 0.09, 0.10, 0.08, 0.08, 0.07, 0.07, 0.07, 0.06, 0.07, 0.05, 0.06, 0.05, 0.05,
    0.05, 0.10,
])  # fmt: skip


@METRICS.register()
class TimbreSimilarity(MeanMetric):
    """Cosine of long-term statistics of the two voices: the means of WORLD's mel-cepstra c_1 to c_20 (12 kHz) and of
    log F0 over voiced frames, less those of an average voice, in units of their variation within a speaker. Up to 1,
    the more the better.

    A weak substitute for `SpeakerSimilarity` without weights: it depends on pitch, vocal tract and microphone. Single
    utterances of 6 s from 7 speakers (LibriSpeech 19, 26, 27 and VCTK p225 to p228, none of which its constants were
    taken from) are verified within a corpus with an equal error rate of 8 %; the median is 0.86 for one speaker and
    0.26 for two. Pairs with less than 0.1 s of voiced speech in either are skipped.
    """

    best = 1.0

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        a, b = (voice_statistics(waveform, pair.sample_rate) for waveform in (pair.reference, pair.synthesized))
        if a is None or b is None:
            return None
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))), 1.0


def voice_statistics(waveform: Tensor, sample_rate: int) -> NDArray[np.float64] | None:
    """The normalized statistics of a voice, (21,); None where too little is voiced."""
    voice = analyze(waveform, sample_rate, _RECIPE)
    voiced = voice.f0 > 0
    if voiced.sum() < _LEAST_VOICED_FRAMES:
        return None
    means = np.append(voice.cepstra[voiced, 1:].mean(axis=0), np.log(voice.f0[voiced]).mean())
    normalized: NDArray[np.float64] = (means - _MEAN) / _WITHIN_SPEAKER
    return normalized

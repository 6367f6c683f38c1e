"""Metrics by pretrained networks of other packages, which bring their weights along: nothing is downloaded."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import numpy as np
import torch

from hw_base.audio import io as audio
from hw_base.errors import MissingPackageError
from hw_base.registry import METRICS
from hw_tts.metrics.base import MeanMetric, Pair

# Both networks hear 16 kHz.
_RATE = 16000
# What an import error names -> what is to be installed.
_PACKAGES = {"pkg_resources": "setuptools<81", "resemblyzer": "Resemblyzer"}
# Less speech than this says nothing about a voice.
_LEAST_SPEECH_SECONDS = 0.5


@METRICS.register()
class SpeakerSimilarity(MeanMetric):
    """Cosine of the speaker embeddings of the recording and the synthesis, up to 1, the more the better (Wan et al.
    2018, "Generalized End-to-End Loss for Speaker Verification", as trained for the package Resemblyzer).

    Two recordings of one speaker have about 0.8 to 0.95, of two speakers about 0.5. Pairs with less than half a second
    of speech in either are skipped.

    Raises:
        MissingPackageError: without Resemblyzer or what it needs.
    """

    best = 1.0

    def __init__(self) -> None:
        super().__init__()
        _speaker_encoder()

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        encoder, preprocess = _speaker_encoder()
        embeddings = []
        for waveform in (pair.reference, pair.synthesized):
            samples = audio.resample(waveform, pair.sample_rate, _RATE).numpy()
            if not np.any(samples):  # its level in dB would be infinite
                return None
            speech = preprocess(samples)
            if len(speech) < _LEAST_SPEECH_SECONDS * _RATE:
                return None
            embeddings.append(encoder.embed_utterance(speech))
        return float(np.dot(*embeddings)), 1.0


@METRICS.register()
class DNSMOS(MeanMetric):
    """Estimated mean opinion score, 1 to 5, the more the better (Reddy et al. 2022, "DNSMOS P.835", by the package
    speechmos).

    Made to judge noise suppression: it notices noise and artifacts, and not whether the right words are said. Short
    utterances are repeated up to 9 s, as the package does. Waveforms that clip are scaled down; empty ones are skipped.

    Args:
        scale: ``overall``, ``signal`` or ``background`` of P.835, or the ``p808`` network's.
        audio: what is judged; ``reference`` gives the figure of the recordings.

    Raises:
        MissingPackageError: without speechmos or what it needs.
    """

    best = None

    def __init__(
        self,
        scale: Literal["overall", "signal", "background", "p808"] = "overall",
        audio: Literal["synthesized", "reference"] = "synthesized",
    ) -> None:
        super().__init__()
        self.audio = audio
        self._key = {"overall": "ovrl_mos", "signal": "sig_mos", "background": "bak_mos", "p808": "p808_mos"}[scale]
        _dnsmos()

    def measure(self, pair: Pair) -> tuple[float, float] | None:
        waveform = pair.waveform(self.audio)
        if not len(waveform):
            return None
        samples = audio.resample(waveform, pair.sample_rate, _RATE)
        samples = samples / samples.abs().max().clamp(min=1.0)
        return float(_dnsmos()(samples.numpy(), sr=_RATE)[self._key]), 1.0


@cache
def _speaker_encoder() -> tuple[Any, Callable[[Any], Any]]:
    """The network, and what trims silences and raises the level of waveforms for it."""
    try:
        import resemblyzer
    except ImportError as error:
        raise _missing("SpeakerSimilarity", error, "Resemblyzer") from error
    with torch.random.fork_rng(devices=[]):
        encoder = resemblyzer.VoiceEncoder("cpu", verbose=False)
    return encoder.eval(), resemblyzer.preprocess_wav


@cache
def _dnsmos() -> Callable[..., Any]:
    try:
        from speechmos import dnsmos
    except ImportError as error:
        raise _missing("DNSMOS", error, "speechmos") from error
    run: Callable[..., Any] = dnsmos.run
    return run


def _missing(component: str, error: ImportError, package: str) -> MissingPackageError:
    name = (error.name or package).split(".")[0]
    return MissingPackageError(component, _PACKAGES.get(name, name))

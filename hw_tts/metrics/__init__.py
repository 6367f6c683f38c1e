"""Measures of synthetic speech."""

from hw_tts.metrics import cepstral, pretrained, prosody, spectral, timbre, transcripts
from hw_tts.metrics.base import MeanMetric, Pair, SynthesisMetric

__all__ = [
    "MeanMetric",
    "Pair",
    "SynthesisMetric",
    "cepstral",
    "pretrained",
    "prosody",
    "spectral",
    "timbre",
    "transcripts",
]

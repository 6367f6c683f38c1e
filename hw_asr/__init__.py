"""Speech recognition with CTC; importing this package fills the registries with all of it.

``hw_asr.load("model.pth").transcribe("speech.wav")`` is the text of a recording.
"""

from hw_asr import (
    augmentations,
    checks,
    data,
    decoders,
    losses,
    metrics,
    models,
    task,
    text_encoders,
    trainer,
    trainers,
)
from hw_asr.recognizer import load
from hw_base import datasets, synthetic

__all__ = [
    "augmentations",
    "checks",
    "data",
    "datasets",
    "decoders",
    "load",
    "losses",
    "metrics",
    "models",
    "synthetic",
    "task",
    "text_encoders",
    "trainer",
    "trainers",
]

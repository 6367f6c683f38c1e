"""Speech recognition with CTC; importing this package fills the registries with all of it."""

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
from hw_base import datasets, synthetic

__all__ = [
    "augmentations",
    "checks",
    "data",
    "datasets",
    "decoders",
    "losses",
    "metrics",
    "models",
    "synthetic",
    "task",
    "text_encoders",
    "trainer",
    "trainers",
]

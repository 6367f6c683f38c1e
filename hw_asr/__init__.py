"""Speech recognition with CTC; importing this package fills the registries with all of it."""

from hw_asr import augmentations, collate, datasets, decoders, losses, metrics, models, task, text_encoders, trainer
from hw_base import synthetic

__all__ = [
    "augmentations",
    "collate",
    "datasets",
    "decoders",
    "losses",
    "metrics",
    "models",
    "synthetic",
    "task",
    "text_encoders",
    "trainer",
]

"""Speech recognition with CTC; importing this package fills the registries with all of it."""

from hw_asr import (
    augmentations,
    collate,
    decoders,
    intermediate_ctc,
    losses,
    metrics,
    models,
    sentencepiece_encoder,
    task,
    text_encoders,
    trainer,
)
from hw_base import datasets, synthetic

__all__ = [
    "augmentations",
    "collate",
    "datasets",
    "decoders",
    "intermediate_ctc",
    "losses",
    "metrics",
    "models",
    "sentencepiece_encoder",
    "synthetic",
    "task",
    "text_encoders",
    "trainer",
]

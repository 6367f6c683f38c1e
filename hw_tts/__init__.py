"""Speech synthesis; importing this package fills the registries with all of it."""

from hw_base import datasets, synthetic
from hw_tts import (
    adversarial_trainer,
    collate,
    features,
    gan_losses,
    losses,
    metrics,
    models,
    new_speakers,
    task,
    text,
    trainer,
    vits2_losses,
    vocoder_task,
)

__all__ = [
    "adversarial_trainer",
    "collate",
    "datasets",
    "features",
    "gan_losses",
    "losses",
    "metrics",
    "models",
    "new_speakers",
    "synthetic",
    "task",
    "text",
    "trainer",
    "vits2_losses",
    "vocoder_task",
]

"""Speech synthesis; importing this package fills the registries with all of it."""

from hw_base import datasets, synthetic
from hw_tts import checks, data, features, losses, metrics, models, speakers, tasks, text, trainers

__all__ = [
    "checks",
    "data",
    "datasets",
    "features",
    "losses",
    "metrics",
    "models",
    "speakers",
    "synthetic",
    "tasks",
    "text",
    "trainers",
]

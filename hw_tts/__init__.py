"""Speech synthesis; importing this package fills the registries with all of it.

``waveform, rate = hw_tts.load("model.pth").speak("Hello.")`` says a text.
"""

from hw_base import datasets, synthetic
from hw_tts import checks, data, features, losses, metrics, models, speakers, tasks, text, trainers
from hw_tts.synthesizer import load

__all__ = [
    "checks",
    "data",
    "datasets",
    "features",
    "load",
    "losses",
    "metrics",
    "models",
    "speakers",
    "synthetic",
    "tasks",
    "text",
    "trainers",
]

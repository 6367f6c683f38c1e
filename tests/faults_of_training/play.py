"""A good small run, and how a fault is planted in a copy of it, in this process."""

import contextlib
import copy
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from hw_base.config.resolve import resolve
from hw_base.errors import HwError
from hw_base.runs.experiment import Experiment
from hw_base.training.trainer import BaseTrainer

SPEECH = {"type": "SyntheticSpeech"}

RECOGNITION: dict[str, Any] = {
    "task": "asr",
    "name": "faults",
    "seed": 1,
    "data": {
        "train": {"datasets": [{**SPEECH, "args": {"part": "train", "n_utterances": 48}}], "batch_size": 8},
        "val": {"datasets": [{**SPEECH, "args": {"part": "val", "n_utterances": 6}}], "batch_size": 6},
    },
    "text_encoder": "CharTextEncoder",
    "features": {"type": "LogMelSpectrogram", "args": {"n_mels": 40, "normalize": "utterance"}},
    "model": {
        "type": "DeepSpeech2",
        "args": {
            "conv_channels": [8, 8],
            "kernel_sizes": [[11, 7], [7, 5]],
            "time_stride": 3,
            "n_layers": 1,
            "n_hidden": 48,
            "dropout": 0.0,
        },
    },
    "losses": {"ctc": 1.0},
    "optimizers": {
        "model": {
            "type": "AdamW",
            "args": {"lr": 0.003},
            "scheduler": {"type": "WarmupDecay", "args": {"warmup_steps": 10}},
            "clip_norm": 5.0,
        }
    },
    "trainer": {"max_steps": 100, "log_every": 5, "eval_every": 1000, "amp": "off", "examples": 0},
}

SYNTHESIS: dict[str, Any] = {
    "task": "tts",
    "name": "faults",
    "seed": 1,
    "data": {
        split: {
            "datasets": [{**SPEECH, "args": {"part": split, "n_utterances": n, "sample_rate": 22050}}],
            "batch_size": min(n, 4),
        }
        for split, n in (("train", 12), ("val", 2))
    },
    "text_encoder": "EspeakPhones",
    "features": "TTSFeatures",
    "model": {
        "type": "FastSpeech2",
        "args": {"n_encoder_layers": 1, "n_decoder_layers": 1, "width": 32, "ff_width": 48, "predictor_width": 32},
    },
    "losses": {"mel": 1.0, "duration": 1.0, "pitch": 0.1, "energy": 0.1},
    "optimizers": {"model": {"type": "AdamW", "args": {"lr": 0.001}, "clip_norm": 1.0}},
    "trainer": {"max_steps": 30, "log_every": 2, "eval_every": 1000, "amp": "off", "examples": 0},
}


def changed(config: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with other values at dotted keys, dots written as ``__``."""
    config = copy.deepcopy(config)
    for key, value in values.items():
        *parts, last = key.split("__")
        section = config
        for part in parts:
            section = section[int(part)] if isinstance(section, list) else section[part]
        section[last] = value
    return config


@contextlib.contextmanager
def nothing(*unused: Any) -> Iterator[None]:
    """No patch."""
    yield


def run(
    config: dict[str, Any],
    patch: Callable[[], contextlib.AbstractContextManager[Any]] = nothing,
    mend: Callable[[BaseTrainer], None] = lambda trainer: None,
    folder: Path | None = None,
) -> list[tuple[int, str]]:
    """Train with a fault; what was said: step and name of each finding, the error that ended it last.

    Args:
        config: of the run.
        patch: surrounds everything.
        mend: changes the trainer before it starts; a fault in what was built.
        folder: of the run; a temporary one if not given.
    """
    with tempfile.TemporaryDirectory() as temporary, patch():
        path = folder or Path(temporary)
        try:
            trainer = Experiment(resolve(config, []), torch.device("cpu")).trainer(path)
        except HwError as error:
            return [(0, f"refused: {error}")]
        mend(trainer)
        said: list[tuple[int, str]] = []
        try:
            trainer.train()
        except HwError as error:
            said = [(trainer.step, f"{type(error).__name__}: {error}")]
        finally:
            trainer.setup.writers.close()
        return [(step, one.name) for step, one in trainer.watch.found] + said

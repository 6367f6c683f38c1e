"""A good small run, and how a fault is planted in a copy of it, in this process."""

import contextlib
import copy
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from hw_base.check import check
from hw_base.config.resolve import resolve
from hw_base.errors import HwError
from hw_base.examinations import data
from hw_base.examinations.examine import preflight
from hw_base.examinations.findings import Finding
from hw_base.runs.experiment import Experiment
from hw_base.training.trainer import BaseTrainer

SPEECH = {"type": "SyntheticSpeech"}

RECOGNITION: dict[str, Any] = {
    "task": "asr",
    "name": "faults",
    "seed": 1,
    "data": {
        "train": {"datasets": [{**SPEECH, "args": {"part": "train", "n_utterances": 48}}], "batch_size": 6},
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
    "trainer": {"max_steps": 60, "log_every": 4, "eval_every": 1000, "amp": "off", "examples": 0},
}

SYNTHESIS: dict[str, Any] = {
    "task": "tts",
    "name": "faults",
    "seed": 1,
    "data": {
        split: {
            "datasets": [
                {**SPEECH, "args": {"part": split, "n_utterances": n, "voices": ["en-us"], "sample_rate": 22050}}
            ],
            "batch_size": min(n, 4),
        }
        for split, n in (("train", 12), ("val", 1))
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


@dataclass(frozen=True)
class Said:
    """One finding of a played run.

    Attributes:
        by: ``config``, ``doctor``, ``check``, ``watcher`` or ``end``, the error that ends the run.
        step: of training; 0 before it.
        name: of the finding.
        sentence: for people.
    """

    by: str
    step: int
    name: str
    sentence: str


def run(
    config: dict[str, Any],
    patch: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext,
    change: Callable[[BaseTrainer], None] = lambda trainer: None,
    component: str | None = None,
    folder: Path | None = None,
) -> list[Said]:
    """Examine and train with a fault.

    Args:
        config: of the run.
        patch: surrounds everything: a fault in code.
        change: is given the trainer before it starts: a fault in what was built.
        component: a model that `hw_base.check` looks at too, with the arguments of the config.
        folder: of the run; a temporary one if not given.

    Returns:
        What was said, in this order.
    """
    with tempfile.TemporaryDirectory() as temporary, patch():
        said = []
        if component is not None:
            outcomes = check("models", component, config["model"]["args"])
            said = [Said("check", 0, one.name, one.found) for one in outcomes if one.holds is False]
        try:
            trainer = Experiment(resolve(config, []), torch.device("cpu")).trainer(folder or Path(temporary))
        except HwError as error:
            return [*said, Said("config", 0, type(error).__name__, str(error))]
        change(trainer)
        said += _before(trainer)
        end = []
        try:
            trainer.train()
        except HwError as error:
            end = [Said("end", trainer.step, type(error).__name__, str(error))]
        finally:
            trainer.setup.writers.close()
        said += [Said("watcher", step, one.name, one.line()) for step, one in trainer.watch.found]
        return said + end


def _before(trainer: BaseTrainer) -> list[Said]:
    """What the doctor finds on data and in the first batch."""
    task = trainer.setup.task
    assert task is not None
    findings: list[Finding] = []
    for loader in trainer.setup.loaders.values():
        for examination in (data.decodes(loader.split), data.transcripts_belong(loader.split)):
            findings += examination
        findings += data.alphabet(loader.split, task)
    with contextlib.suppress(Exception):  # training meets it too
        findings += task.examine(trainer, trainer.loader.sample(4), cheap=False)
    findings += preflight(trainer)
    names = dict.fromkeys((f.what, f.evidence) for f in findings if f.level != "ok")
    return [Said("doctor", 0, what, evidence) for what, evidence in names]

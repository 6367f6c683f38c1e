"""Checkpoints of small models with random weights, made without training, for the tests of exported graphs."""

import torch

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401
from hw_base import checkpoint
from hw_base.config import read as config_files
from hw_base.config.resolve import as_dict, build, resolve
from hw_base.registry import MODELS, TASKS
from tests.conftest import ROOT

STATISTICS = {"pitch_mean": 180.0, "pitch_std": 50.0, "pitch_min": 70.0, "pitch_max": 400.0}
STATISTICS |= {"energy_mean": 12.0, "energy_std": 6.0, "energy_min": 0.1, "energy_max": 60.0}
# So that a vocoder of configs/tiny/hifigan.json hears the spectrograms of the synthesizers.
VOICE = ("features.args={}", "model.args.upsample_rates=[8,8,4]", "model.args.upsample_kernel_sizes=[16,16,8]")


def save(path, name, *overrides):
    """A checkpoint of ``configs/tiny/NAME.json`` with some keys changed as by ``--set``."""
    config = resolve(config_files.read(ROOT / "configs" / "tiny" / f"{name}.json"), list(overrides))
    task = TASKS[config.task](config)
    if config.task == "tts":
        task.text_encoder.fit_symbols(["abcdefghijk"])
        task.load_state_dict({"speakers": ["en-us", "en-us+f3"]})
    if config.task == "asr":
        task.text_encoder.fit(["ten keys and seven days", "we see the sea"] * 20)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = build("model", config.model, MODELS, **task.model_arguments())
        if config.task == "asr":  # so that log-probabilities depend on the audio
            part = getattr(model, "encoder", model)
            head = part.head if hasattr(part, "head") else part.network.out
            torch.nn.init.normal_(head.weight, std=1.0)
        if hasattr(model, "duration_predictor"):
            torch.nn.init.constant_(model.duration_predictor.out.bias, 1.5)
        if hasattr(model, "pitch"):
            model.set_statistics(STATISTICS)
    state = {"config": as_dict(config), "text_encoder": task.text_encoder.state_dict(), "model": model.state_dict()}
    checkpoint.save(path, state | {"task": task.state_dict()})
    return path

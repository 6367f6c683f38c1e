"""A small recognizer's checkpoint, made without training."""

import torch

from hw_base import checkpoint
from hw_base.config import read as config_files
from hw_base.config.resolve import as_dict, build, resolve
from hw_base.registry import MODELS, TASKS
from tests.conftest import ROOT


def save_random(path, overrides=(), texts=(), name="ds2"):
    """Random weights, scaled so that the transcripts depend on the audio.

    The config is the tiny one of this name, its changes are as of ``--set``; a vocabulary that is learned is learned
    from the texts.
    """
    config = resolve(config_files.read(ROOT / "configs" / "tiny" / f"{name}.json"), overrides)
    task = TASKS[config.task](config)
    if texts:
        task.text_encoder.fit(texts)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = build("model", config.model, MODELS, **task.model_arguments())
        transducer = name == "transducer"
        for layer in [model.encoder.head, model.joiner, model.encoder_projection] if transducer else [model.head]:
            torch.nn.init.normal_(layer.weight, std=3.0)
    state = {"config": as_dict(config), "text_encoder": task.text_encoder.state_dict(), "model": model.state_dict()}
    checkpoint.save(path, state)
    return path

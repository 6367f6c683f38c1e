"""Opening a recogniser for another task: a checkpoint that turns audio into text and into frame-wise posteriors."""

from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint
from hw_base import task_packages as packages
from hw_base.config.resolve import build, resolve
from hw_base.config.schema import Config
from hw_base.errors import CheckpointError, ConfigError
from hw_base.nn.model import BaseModel
from hw_base.recognizer import Recognizer
from hw_base.registry import MODELS, TASKS
from hw_base.task import BaseTask


def load_recognizer(path: str | Path, device: str | torch.device = "cpu") -> Recognizer:
    """Rebuild a recogniser from its checkpoint alone, whatever package its task stands in.

    Neither the state of the random generators nor what autocast is set to makes a difference, and is not changed.

    Args:
        path: checkpoint, as a training run or the averaging of one wrote it.
        device: where it computes.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or its weights do not fit its own config.
        ConfigError: the checkpoint of another task, or of a config that this version does not accept.
    """
    state = checkpoint.load(path)
    config = _config(path, state)
    try:
        task: BaseTask = TASKS[config.task](config)
        task.text_encoder.load_state_dict(state["text_encoder"])
        task.load_state_dict(state.get("task", {}))
        with torch.random.fork_rng(devices=[]):
            model: BaseModel = build("model", config.model, MODELS, **task.model_arguments())
        recognizer: Recognizer = task.recognizer(model, torch.device(device))
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None
    checkpoint.load_weights(model, state["model"], path)
    return recognizer


def _config(path: str | Path, state: dict[str, Any]) -> Config:
    """The checkpoint's own config, with its task registered."""
    missing = {"config", "model", "text_encoder"} - state.keys()
    if missing or not isinstance(state["config"], dict):
        lacks = f"no {', '.join(sorted(missing))} in it" if missing else "its config is no mapping"
        raise CheckpointError(f"{path}: not the checkpoint of a recogniser: {lacks}")
    if state["config"].get("task") not in TASKS:
        packages.import_all()
    try:
        return resolve(state["config"])
    except ConfigError as error:
        raise ConfigError(f"{path}: its config is not accepted: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    first, *others = str(error).splitlines()
    return f"{first} (and {len(others)} more)" if others else first

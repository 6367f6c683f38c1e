"""The one way to open a checkpoint: a file -> its config, its task and its model, ready to be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint, components
from hw_base.config.resolve import build, resolve
from hw_base.config.schema import Config
from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel
from hw_base.recognizer import Recognizer
from hw_base.registry import MODELS, TASKS
from hw_base.task import BaseTask


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds, rebuilt.

    Attributes:
        path: of the file.
        config: with which it was trained.
        task: with the text encoder, speakers and whatever else was learned beside the weights.
        model: with its weights, on the device, in evaluation mode.
        device: where it computes.
    """

    path: Path
    config: Config
    task: BaseTask
    model: BaseModel
    device: torch.device


def load(path: str | Path, device: str | torch.device = "cpu") -> Trained:
    """Rebuild a model from its checkpoint alone, whatever package its task lives in.

    Neither the state of the random generators nor what autocast is set to makes a difference, and is not changed.

    Args:
        path: checkpoint, as a training run, an import or the averaging of checkpoints wrote it.
        device: where it computes.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or its weights do not fit its own config.
        ConfigError: its config is not accepted by this version, or names components of a package that is not imported.
    """
    state = read(path)
    config, task = _open(path, state)
    try:
        with torch.random.fork_rng(devices=[]):
            model: BaseModel = build("model", config.model, MODELS, **task.model_arguments())
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None
    checkpoint.load_weights(model, state["model"], path)
    where = torch.device(device)
    return Trained(Path(path), config, task, model.to(where).eval(), where)


def load_task(path: str | Path) -> BaseTask:
    """The task of a checkpoint, with its text encoder, without building the model; see `load`."""
    return _open(path, read(path))[1]


def load_recognizer(path: str | Path, device: str | torch.device = "cpu") -> Recognizer:
    """The model of a checkpoint as a recognizer; see `load`.

    Raises:
        ConfigError: the checkpoint of a task that does not recognize speech.
    """
    trained = load(path, device)
    try:
        return trained.task.recognizer(trained.model, trained.device)
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None


def read(path: str | Path, needs: Sequence[str] = checkpoint.MODEL_PARTS) -> dict[str, Any]:
    """The contents of a checkpoint, whose components are all there to be built.

    Args:
        path: of the checkpoint.
        needs: what it must hold.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint of a training run.
        ConfigError: it was trained with components of packages that are not imported.
    """
    state = checkpoint.load(path, needs=needs)
    components.require(state.get("packages", ()), path)
    return state


def restore_task(
    config: Config, state: Mapping[str, Any] | None, source: str | Path, task: BaseTask | None = None
) -> BaseTask:
    """The task of a config, with what it learned in the run that a checkpoint was written by.

    Args:
        config: checked.
        state: of the checkpoint; None is a new task.
        source: names the checkpoint in messages.
        task: of the config, which the state is given to; built if there is none yet.

    Raises:
        CheckpointError: the state does not fit the config.
    """
    if task is None:
        task = TASKS[config.task](config)
    if state is not None:
        with checkpoint.restoring(source):
            task.text_encoder.load_state_dict(state["text_encoder"])
            task.load_state_dict(state.get("task", {}))
    return task


def _open(path: str | Path, state: dict[str, Any]) -> tuple[Config, BaseTask]:
    try:
        config = resolve(state["config"], checkpoint=path)
    except ConfigError as error:
        raise ConfigError(_one_line(error)) from None
    try:
        return config, restore_task(config, state, path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    first, *others = str(error).splitlines()
    return f"{first} (and {len(others)} more)" if others else first

"""The one way to open a checkpoint: a file -> its config, its task and its model, ready to be used."""

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint, task_packages
from hw_base.config import components
from hw_base.config.paths import distrust
from hw_base.config.resolve import build, resolve
from hw_base.config.schema import Config
from hw_base.errors import CheckpointError, ConfigError
from hw_base.files import sources
from hw_base.nn.model import BaseModel
from hw_base.recognizer import Recognizer
from hw_base.registry import MODELS, TASKS
from hw_base.task import BaseTask

log = logging.getLogger(__name__)

# What is read where a model is used; files that other sections name are not missed.
_USED = ("decoders", "text_encoder", "features", "model")
# A model may have so many times the values that are stored of it, and so many more: buffers that are made anew.
_MOST_TIMES, _MOST_MORE = 2, 16_000_000


@dataclass(frozen=True)
class Given:
    """What a caller lays over the config of a checkpoint.

    The files and downloads that it names are the caller's own choice, and are opened; those that the checkpoint's own
    config names are not.

    Attributes:
        sections: of a config, each in the place of the checkpoint's.
        overrides: ``KEY=VALUE``, see `hw_base.config.overrides.Overrides`.
        trust: whether the checkpoint's own choice is the caller's, for one that the caller wrote itself.
    """

    sections: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[str] = ()
    trust: bool = False


NOTHING = Given()


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


def load(path: str | Path, device: str | torch.device = "cpu", given: Given = NOTHING) -> Trained:
    """Rebuild a model from its checkpoint alone, whatever package its task is in.

    Neither the state of the random generators nor what autocast is set to makes a difference, and is not changed.
    Language models and other files that its config names are not opened unless they are given; see `config_of`.

    Args:
        path: checkpoint, as a training run, an import, the averaging of checkpoints or `hw_base.publish` wrote it, or
            the address of one, see `hw_base.files.sources`.
        device: where it computes.
        given: laid over its config.

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or its weights do not fit its own config.
        ConfigError: its config is not accepted by this version, or names components of a package that is not imported.
    """
    path = sources.local(path)
    state = read(path)
    config, task = _open(path, state, given)
    try:
        with torch.random.fork_rng(devices=[]):
            refuse_larger(config, task, state["model"], path)
            model: BaseModel = build("model", config.model, MODELS, **task.model_arguments())
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None
    checkpoint.load_weights(model, state["model"], path)
    where = torch.device(device)
    return Trained(path, config, task, model.to(where).eval(), where)


def load_task(path: str | Path) -> BaseTask:
    """The task of a checkpoint, with its text encoder, without building the model; see `load`."""
    return _open(path, read(path), NOTHING)[1]


def load_recognizer(path: str | Path, device: str | torch.device = "cpu", given: Given = NOTHING) -> Recognizer:
    """The model of a checkpoint as a recognizer; see `load`.

    Raises:
        ConfigError: the checkpoint of a task that does not recognize speech.
    """
    trained = load(path, device, given)
    try:
        return trained.task.recognizer(trained.model, trained.device)
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None


def config_of(
    raw: Mapping[str, Any], path: str | Path, given: Given = NOTHING, reported: Sequence[str] | None = None
) -> Config:
    """The config of a checkpoint, checked, with what is laid over it.

    Whoever made the checkpoint may have chosen what its config names. Language models, other files, caches and
    downloads are left out unless they are given, and one line says so.

    Args:
        raw: what the checkpoint holds.
        path: of the checkpoint, for messages.
        given: laid over it.
        reported: sections that the line reports; None is all.

    Raises:
        ConfigError: it is not accepted.
    """
    task_packages.import_task(given.sections.get("task", raw.get("task")))
    tree = copy.deepcopy({**raw, **given.sections})
    if not given.trust:
        left_out = distrust(tree, [*given.sections, *(text.partition("=")[0] for text in given.overrides)])
        left_out = [place for place in left_out if reported is None or place.split(".")[0] in reported]
        if left_out:
            reason = "its config names files or downloads, which are not opened unless -c or --set gives them"
            log.warning("%s: %s: %s", path, reason, ", ".join(left_out))
    return resolve(tree, given.overrides, path, given.sections)


def refuse_larger(config: Config, task: BaseTask, weights: Mapping[str, Any], path: str | Path) -> None:
    """Refuse a config that describes a far larger model than the checkpoint holds, before its memory is taken.

    The model is built without memory for that, on torch's ``meta`` device. One whose constructor needs the values of
    its tensors cannot be; only its arguments' own bounds limit it.

    Raises:
        CheckpointError: the model would have more than twice the stored values.
        ConfigError: an argument does not fit.
    """
    try:
        with torch.device("meta"):
            model: BaseModel = build("model", config.model, MODELS, **task.model_arguments())
    except ConfigError:
        raise
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        return
    needed = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    stored = sum(tensor.numel() for tensor in weights.values() if isinstance(tensor, torch.Tensor))
    if needed > _MOST_TIMES * stored + _MOST_MORE:
        raise CheckpointError(
            f"{path}: refused, its config describes a model of {needed:,} values, and it holds {stored:,}"
        )


def read(path: str | Path, needs: Sequence[str] = checkpoint.MODEL_PARTS) -> dict[str, Any]:
    """The contents of a checkpoint, whose components are all there to be built.

    Args:
        path: of the checkpoint, or its address.
        needs: what it must hold.

    Raises:
        CheckpointError: missing, damaged, or not a checkpoint of a training run.
        ConfigError: it was trained with components of packages that are not imported.
    """
    state = checkpoint.load(sources.local(path), needs=needs)
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


def _open(path: str | Path, state: dict[str, Any], given: Given) -> tuple[Config, BaseTask]:
    try:
        config = config_of(state["config"], path, given, _USED)
    except ConfigError as error:
        raise ConfigError(_one_line(error)) from None
    try:
        return config, restore_task(config, state, path)
    except ConfigError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from None


def _one_line(error: Exception) -> str:
    first, *others = str(error).splitlines()
    return f"{first} (and {len(others)} more)" if others else first

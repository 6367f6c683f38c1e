"""What a task adds to the base: its default sections, its items, its model's run-time arguments, its test."""

import copy
import inspect
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch

from hw_base import checkpoint, registry
from hw_base.config.resolve import build
from hw_base.config.schema import TRAIN_SPLIT, Config, OptimizerSection
from hw_base.data.dataset import Record
from hw_base.data.loader import Loader
from hw_base.data.split import Split
from hw_base.datasets.layouts import dataset_of
from hw_base.errors import ConfigError
from hw_base.metrics import BaseMetric
from hw_base.nn.model import BaseModel
from hw_base.recognizer import Recognizer
from hw_base.registry import lacking, suggest
from hw_base.text import BaseTextEncoder

PLATEAU = "ReduceLROnPlateau"
MakeItem = Callable[[Record, Any, torch.Generator], dict[str, Any]]


class BaseTask(ABC):
    """One task, for one config.

    Attributes:
        config_class: its configs' schema: `Config`, or a subclass with the sections that only this task has, and with
            ``model`` marked by the arguments that `model_arguments` gives.
        defaults: whole sections that stand where a config is silent.
        default_collate: registered name, for every split.
        default_trainer: registered name.
        model_contract: what the config's model must be a subclass of.
        needs_text: utterances without a transcript are of no use for training and evaluation.
        origin_step: steps that the weights of ``init_from`` had been trained for, where the task counts them.
    """

    config_class: ClassVar[type[Config]] = Config
    defaults: ClassVar[dict[str, Any]] = {}
    default_collate: ClassVar[str]
    default_trainer: ClassVar[str]
    model_contract: ClassVar[type[BaseModel]] = BaseModel
    needs_text: ClassVar[bool] = True

    def __init__(self, config: Config) -> None:
        self.config = config
        self.origin_step = 0
        self.features = build("features", config.features, registry.FEATURES)
        self.text_encoder: BaseTextEncoder = build("text_encoder", config.text_encoder, registry.TEXT_ENCODERS)

    @abstractmethod
    def item_maker(self, training: bool) -> MakeItem:
        """What makes an item of a record and its waveform; augmentations belong to training."""

    @abstractmethod
    def model_arguments(self) -> dict[str, Any]:
        """Arguments of the model that only data and text encoder know."""

    def unknown(self, record: Record) -> list[str]:
        """What of an utterance the text encoder's vocabulary lacks, in order."""
        return self.text_encoder.unknown(record.text or "")

    def unusable_utterances(self, model: BaseModel, split: Split) -> dict[str, str]:
        """Utterances that the model cannot learn from or be evaluated on: id -> reason; asked before the first step.

        Args:
            model: on any device.
            split: ``split.evaluation`` says what for.
        """
        return {}

    def fit_vocabulary(self, split: Split, origin: dict[str, Any] | None) -> None:
        """Learn what the model's size depends on from the training split; called when nothing is resumed.

        Args:
            split: of training.
            origin: the checkpoint that ``init_from`` names, if any; the same text encoder is taken from it as it is,
                because its weights mean the tokens they were trained with.
        """
        section, taken = self.config.text_encoder.model_dump(), self.config.init_text_encoder
        if origin is not None and taken and origin["config"]["text_encoder"] == section:
            self.text_encoder.load_state_dict(origin["text_encoder"])
        else:
            self.text_encoder.fit(record.text or "" for record in split.records)

    def initialize(self, model: BaseModel, origin: dict[str, Any], source: str) -> None:
        """Give a new model the weights of the checkpoint that ``init_from`` names; `source` names it in messages."""
        checkpoint.load_weights(model, origin["model"], source)

    def fill_caches(self, model: BaseModel, splits: dict[str, Split]) -> None:
        """Look at the data before batches are made of it, for example to compute what is cached.

        Args:
            model: on its device.
            splits: by name, ``train`` among them.
        """

    def start_training(self, model: BaseModel, loader: Loader) -> None:
        """Last step before a training that resumes nothing, for example to tell the model statistics of the data.

        Args:
            model: on its device, with the weights of ``init_from``, if any.
            loader: of training.
        """

    def state_dict(self) -> dict[str, Any]:
        """What was learned by `fit` besides the text encoder, as tensors and plain containers."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Become the task that `state_dict` was taken from."""

    @classmethod
    def folder_dataset(cls, folder: str) -> dict[str, Any]:
        """The dataset section for ``test.py -t PATH``."""
        return dataset_of(folder)

    def examine(self, trainer: Any, batch: dict[str, Any], cheap: bool) -> Iterable[Any]:
        """What the doctor finds out about this task before training, as `hw_base.examinations.findings.Finding`.

        Args:
            trainer: a `BaseTrainer`; nothing of it may change.
            batch: of training, a few utterances, on the CPU.
            cheap: only what takes a second or two.
        """
        return ()

    @abstractmethod
    def test(self, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
        """Evaluate a checkpoint as ``test.py`` was asked to; the exit code."""

    def recognizer(self, model: BaseModel, device: torch.device) -> Recognizer:
        """A trained model as other tasks use it.

        Args:
            model: of this task; moved to the device.
            device: where it computes.

        Raises:
            ConfigError: this task does not recognize speech.
        """
        raise ConfigError(f"a model of task {self.config.task!r} does not recognize speech; give one that does")

    @classmethod
    def complete(cls, tree: dict[str, Any]) -> None:
        """Fill the task's defaults into a config that is not checked yet."""
        for section, value in cls.defaults.items():
            tree.setdefault(section, copy.deepcopy(value))
        splits = tree.get("data")
        for split in splits.values() if isinstance(splits, dict) else ():
            if isinstance(split, dict):
                split.setdefault("collate", cls.default_collate)
        trainer = tree.setdefault("trainer", {})
        if not isinstance(trainer, dict):
            return
        trainer.setdefault("type", cls.default_trainer)
        losses = tree.get("losses")
        if trainer["type"] in registry.TRAINERS and isinstance(losses, dict):
            default_losses = registry.TRAINERS[trainer["type"]].default_losses
            for name, loss in losses.items():
                if isinstance(loss, int | float) and not isinstance(loss, bool):
                    losses[name] = loss = {"weight": loss}
                if isinstance(loss, dict):
                    loss.setdefault("type", default_losses.get(name, name))

    @classmethod
    def check(cls, config: Config) -> dict[str, str]:
        """What fits its own place and not the rest of the config: message by path."""
        unfinished = cls._unfinished(config)
        if unfinished:
            return unfinished
        errors = _decoder_problem(config)
        if (config.trainer.max_steps is None) == (config.trainer.epochs is None):
            errors["trainer"] = "give the length of training as max_steps or as epochs, one of the two"
        errors |= cls._optimizer_errors(config)
        if config.trainer.monitor is not None:
            problem = cls._monitor_problem(config)
            if problem:
                errors["trainer.monitor"] = problem
        else:
            needing = {"early_stop": config.trainer.early_stop, "keep_best": config.trainer.keep_best}
            for key, value in needing.items():
                if value:
                    errors[f"trainer.{key}"] = 'needs trainer.monitor, for example "min val/loss"'
        return errors

    @classmethod
    def _unfinished(cls, config: Config) -> dict[str, str]:
        """Components that lack what their place needs."""
        found = {"model.type": lacking(registry.MODELS[config.model.type], cls.model_contract)}
        for name, metric in config.metrics.items():
            found[f"metrics.{name}.type"] = lacking(registry.METRICS[metric.type], BaseMetric)
        return {where: problem for where, problem in found.items() if problem is not None}

    @classmethod
    def _optimizer_errors(cls, config: Config) -> dict[str, str]:
        errors: dict[str, str] = {}
        groups = registry.MODELS[config.model.type].parameter_group_names
        for name in config.optimizers.keys() - set(groups):
            hint = suggest(name, list(groups))
            errors[f"optimizers.{name}"] = f"{config.model.type} has no parameter group of this name. {hint}"
        for name in set(groups) - config.optimizers.keys():
            errors[f"optimizers.{name}"] = f"required, but missing: a parameter group of {config.model.type}"
        for name, section in config.optimizers.items():
            schedule = section.scheduler
            plateau = schedule is not None and schedule.type == PLATEAU
            if schedule and (schedule.every == "evaluation") != plateau:
                errors[f"optimizers.{name}.scheduler.every"] = (
                    '"evaluation" goes with ReduceLROnPlateau, "step" or "epoch" with every other schedule'
                )
            elif plateau and config.trainer.monitor is None:
                errors[f"optimizers.{name}.scheduler"] = 'needs trainer.monitor, for example "min val/loss"'
            elif schedule and plateau and schedule.args.get("mode") not in (None, config.monitor_mode()):
                errors[f"optimizers.{name}.scheduler.args.mode"] = (
                    f"{schedule.args['mode']!r} contradicts trainer.monitor {config.trainer.monitor!r}; leave it out"
                )
            else:
                errors |= _refused(f"optimizers.{name}", section)
        return errors

    @classmethod
    def _monitor_problem(cls, config: Config) -> str | None:
        mode, _, key = (config.trainer.monitor or "").partition(" ")
        split, _, name = key.partition("/")
        if mode not in ("min", "max") or not name:
            return f'expected "min SPLIT/NAME" or "max SPLIT/NAME", found {config.trainer.monitor!r}'
        if split == TRAIN_SPLIT or split not in config.data:
            return f"no evaluation split is named {split!r}. {suggest(split, config.evaluation_splits())}"
        if split not in config.evaluation_splits():
            return f"{split!r} is kept for the test; choosing a checkpoint on it would make its figures worthless"
        trainer = registry.TRAINERS[config.trainer.type]
        losses = ["loss", *config.losses]
        if len(config.optimizers) > 1:
            losses = [f"{group}/{loss}" for group in config.optimizers for loss in losses]
        known = losses + trainer.metric_names(config)
        return None if name in known else f"{split} has no value named {name!r}. {suggest(name, known)}"


def _refused(where: str, section: OptimizerSection) -> dict[str, str]:
    """What an optimizer and its schedule say to their arguments: both are built once for a parameter of no meaning."""
    try:
        optimizer = build(where, section, registry.OPTIMIZERS, params=[torch.nn.Parameter(torch.zeros(1))])
        if section.scheduler is not None:
            where = f"{where}.scheduler"
            names = inspect.signature(registry.SCHEDULERS[section.scheduler.type]).parameters
            args = {"T_max": 100, "total_iters": 100, "max_lr": 1.0}
            args = {name: value for name, value in args.items() if name in names} | section.scheduler.args
            trial = section.scheduler.model_copy(update={"args": args})
            scheduler = build(where, trial, registry.SCHEDULERS, optimizer=optimizer, total_steps=100)
            optimizer.step()
            scheduler.step(*[0.0] if section.scheduler.type == PLATEAU else [])
    except ConfigError as error:
        return {where: str(error).partition(": ")[2]}
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        return {where: f"fails at its first step: {error}"}
    return {}


def _decoder_problem(config: Config) -> dict[str, str]:
    if config.decoder is None or config.decoder in config.decoders:
        return {}
    hint = suggest(config.decoder, list(config.decoders)) if config.decoders else "There are none."
    return {"decoder": f"no decoder is named {config.decoder!r}. {hint}"}

"""What a run consists of while it trains, and how that is saved in checkpoints and restored."""

import contextlib
import logging
from pathlib import Path
from typing import Any

from torch import nn

from hw_base import checkpoint, distributed, seeding
from hw_base.config.resolve import as_dict
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import CheckpointError
from hw_base.training.ema import EMA
from hw_base.training.guard import Guard
from hw_base.training.meters import RunningMeans, SplitMeans
from hw_base.training.monitor import Monitor
from hw_base.training.parts import TrainerParts
from hw_base.training.weights import LossWeights

log = logging.getLogger(__name__)


class TrainingState:
    """The parts of a run with everything that changes while it trains.

    To keep more in the checkpoint, a trainer extends `state_dict` and `load_state_dict`.

    Attributes:
        setup: what the trainer was given.
        section: the config's ``trainer``.
        networks: the module that each optimizer trains, by name.
        average: moving average of the weights, or None.
        loader: of the training split.
        step: batches seen.
        epoch: passes over the data that are complete.
        batch: batches done in the current epoch.
        last_step: where training ends.
        window: means of losses since they were last logged.
        logged: means of what `BaseTrainer.log` was given since.
        evaluated_at: step of the last evaluation.
    """

    def __init__(self, setup: TrainerParts) -> None:
        self.setup = setup
        self.model, self.device = setup.model, setup.device
        self.section = setup.config.trainer
        self.optimizations, self.loss_modules = setup.optimizations, setup.losses
        self.weights = LossWeights(setup.config.losses)
        self.networks: dict[str, nn.Module] = self.model.parameter_groups()
        distributed.broadcast_model(self.model)
        self.average = EMA(self.model, self.section.ema_decay) if self.section.ema_decay else None
        self.loader = setup.loaders[TRAIN_SPLIT]
        self.step = self.epoch = self.batch = 0
        self.last_step = self.section.max_steps or (self.section.epochs or 0) * len(self.loader)
        self.window, self.logged, self.guard = RunningMeans(), SplitMeans(), Guard(self.section.max_bad_steps)
        self.monitor = Monitor(self.section.monitor, self.section.early_stop, self.section.keep_best)
        self.evaluated_at = self._saved_at = -1

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the model has the weights that are evaluated and saved as its own."""
        return contextlib.nullcontext() if self.average is None else self.average.in_use()

    def save(self, best: bool = False, must: bool = False) -> None:
        """Write a checkpoint of this step, unless there is one.

        Args:
            best: it is the best so far.
            must: raise what prevents it; otherwise that is reported and training continues.

        Raises:
            CheckpointError: it must be written and cannot be.
        """
        if self._saved_at == self.step:
            return
        state = self.state_dict()  # every process takes part
        self._saved_at = self.step
        if self.setup.run_dir is None or not distributed.is_main():
            return
        path = checkpoint.path_of(self.setup.run_dir, self.step)
        try:
            checkpoint.save(path, state)
            if best:
                checkpoint.mark_best(path)
            checkpoint.prune(self.setup.run_dir, self.section.keep, self.monitor.best_steps)
        except CheckpointError as error:
            if must:
                raise
            log.error("%s; training continues with the older checkpoints", error)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, as tensors and plain containers; ``model`` is what evaluations saw."""
        averaged: dict[str, Any] = {}
        if self.average is not None:
            averaged = {"training_weights": self.model.state_dict(), "ema_updates": self.average.n_updates}
            with self.averaged():
                averaged["model"] = {key: value.clone() for key, value in self.model.state_dict().items()}
        return {
            "config": as_dict(self.setup.config),
            "text_encoder": self.setup.text_encoder.state_dict(),
            "task": self.setup.task.state_dict() if self.setup.task is not None else {},
            "model": self.model.state_dict(),
            "optimizations": {name: o.state_dict() for name, o in self.optimizations.items()},
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "evaluated_at": self.evaluated_at,
            "monitor": self.monitor.state_dict(),
            "guard": self.guard.state_dict(),
            "window": distributed.gather(self.window.state_dict()),
            "logged": distributed.gather(self.logged.state_dict()),
            "rng": distributed.gather(seeding.rng_state()),
            "writers": self.setup.writers.state_dict(),
            **averaged,
        }

    def load_state_dict(self, state: dict[str, Any], source: str | Path) -> None:
        """Resume exactly where `state_dict` was taken; `source` names it in messages.

        Raises:
            CheckpointError: it was made for another model or other optimizers.
        """
        checkpoint.load_weights(self.model, state["model"], source)
        if self.average is not None:
            self.average.restart(state.get("ema_updates", 0))
        if "training_weights" in state:
            checkpoint.load_weights(self.model, state["training_weights"], source)
        if state["optimizations"].keys() != self.optimizations.keys():
            found, own = sorted(state["optimizations"]), sorted(self.optimizations)
            raise CheckpointError(f"{source}: holds optimizers {found}, the config has {own}")
        for name, optimization in self.optimizations.items():
            optimization.load_state_dict(state["optimizations"][name])
            optimization.set_epoch(state["epoch"])
        self.step, self.epoch, self.batch = state["step"], state["epoch"], state["batch"]
        self.evaluated_at = state["evaluated_at"]
        self.monitor.load_state_dict(state["monitor"])
        self.guard.load_state_dict(state["guard"])
        process = min(distributed.rank(), len(state["rng"]) - 1)
        self.window.load_state_dict(state["window"][process], self.device)
        if "logged" in state:
            self.logged.load_state_dict(state["logged"][process], self.device)
        seeding.set_rng_state(state["rng"][process])

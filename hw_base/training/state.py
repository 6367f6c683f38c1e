"""What a run consists of while it trains, and how that is saved in checkpoints and restored."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hw_base import checkpoint, distributed, seeding
from hw_base.config import components
from hw_base.config.resolve import as_dict
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import CheckpointError
from hw_base.files import disk_space
from hw_base.training.agreement import Agreement
from hw_base.training.ema import EMA
from hw_base.training.guard import Guard
from hw_base.training.last_good import BufferGuard, LastGood
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
        self.agreement = Agreement(self.model, setup.optimizations.values())
        distributed.broadcast_model(self.model)
        self.average = EMA(self.model, self.section.ema_decay) if self.section.ema_decay else None
        self.buffers, self.last_good = BufferGuard(self.model), LastGood(self.model, self.average)
        self.loader = setup.loaders[TRAIN_SPLIT]
        self.step = self.epoch = self.batch = 0
        self.last_step = self.section.max_steps or (self.section.epochs or 0) * len(self.loader)
        self.window, self.logged, self.guard = RunningMeans(), SplitMeans(), Guard(self.section.max_bad_steps)
        self.monitor = Monitor(self.section.monitor, self.section.early_stop, self.section.keep_best)
        self.evaluated_at = self._saved_at = -1
        self._told: str | None = None
        # Constants of a model may be infinite: a mask that is added.
        buffers = [(name, buffer) for name, buffer in self.model.named_buffers() if buffer.is_floating_point()]
        self._infinite = {name for name, buffer in buffers if not bool(torch.isfinite(buffer).all())}
        self._epoch_shift = 0
        self._before_change: frozenset[int] = frozenset()  # the step resumed from, if the config is another one now

    def averaged(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the model has the weights that are evaluated and saved as its own."""
        return contextlib.nullcontext() if self.average is None else self.average.in_use()

    @property
    def position(self) -> int:
        """Batches since the beginning, as if all epochs had had as many as this one."""
        return self.epoch * len(self.loader) + self.batch

    def save(self, best: bool = False, must: bool = False) -> bool:
        """Write a checkpoint of this step, unless there is one.

        Args:
            best: it is the best so far.
            must: raise what prevents it; otherwise that is reported and training continues.

        Returns:
            Whether it is there.

        Raises:
            CheckpointError: it must be written and cannot be.
        """
        if self._saved_at == self.step:
            return True
        state = self.state_dict()  # every process takes part
        problem = None
        if distributed.is_main():
            problem = self._not_finite(state) or self._write(state, best)
        problem = distributed.broadcast_object(problem)
        if problem is None:
            self._saved_at, self._told = self.step, None
            return True
        if must:
            raise CheckpointError(problem)
        if problem != self._told:  # the best is tried twice
            log.error("%s; training continues with the older checkpoints", problem)
        self._told = problem
        return False

    def _not_finite(self, state: dict[str, Any]) -> str | None:
        """Why a state must not be written: it could not be resumed from."""
        for part in ("model", "training_weights"):
            for name, tensor in state.get(part, {}).items():
                if tensor.is_floating_point() and name not in self._infinite and not bool(torch.isfinite(tensor).all()):
                    return f"step {self.step}: not saved, {name} is not finite"
        return None

    def _write(self, state: dict[str, Any], best: bool) -> str | None:
        """Write a state, mark it as the best if it is, and only then delete older ones; what prevented it."""
        folder = self.setup.run_dir
        if folder is None:
            return None
        path = checkpoint.path_of(folder, self.step)
        try:
            checkpoint.save(path, state)
            if best:
                checkpoint.mark_best(path)
            self._prune(folder)
        except CheckpointError as error:
            return str(error)
        return None

    def _prune(self, folder: Path) -> None:
        checkpoint.prune(folder, self.section.keep, self.monitor.best_steps | self._before_change)

    def check_space(self) -> None:
        """Check that the checkpoints to come will fit on the disk.

        Raises:
            CheckpointError: there is not even room for two of them.
        """
        one, count = self.space_needed()
        if self.setup.run_dir is None or not distributed.is_main():
            return
        there = sum(path.stat().st_size for path in checkpoint.numbered(self.setup.run_dir))
        disk_space.check(self.setup.run_dir, one, count, there)

    def space_needed(self) -> tuple[int, int]:
        """About how many bytes a checkpoint will take, and how many there will be at most; every process takes part."""
        state = self.state_dict()
        moments = sum(optimization.moments_size() for optimization in self.optimizations.values())
        one = disk_space.size_of({**state, "optimizations": None}) + moments
        # The newest, one that is being written, the best, and the others that are spared.
        return one, self.section.keep + 2 + self.section.keep_best

    def repair_folder(self, source: Path) -> None:
        """After a resume, do in the run folder what a process that was killed there had left to do.

        ``model_best.pth`` and the monitor agree again: they differ after a kill between saving and marking, and in a
        folder that is not the old run's. Checkpoints that are older than those to keep are deleted.

        Args:
            source: the checkpoint that was resumed from.
        """
        folder = self.setup.run_dir
        if folder is None:
            return
        if self.monitor.best is not None:
            self._repair_best(folder, source)
        if distributed.is_main():
            self._prune(folder)

    def _repair_best(self, folder: Path, source: Path) -> None:
        problem = None
        if distributed.is_main() and (marked := checkpoint.best_step(folder)) != self.monitor.best_step:
            ours = marked is not None and marked > self.step  # of the steps that are about to be repeated
            problem = None if ours else self._mark_again(folder, source)
        problem = distributed.broadcast_object(problem)
        if problem is not None:
            log.warning("%s; the next evaluation becomes the best", problem)
            self.monitor.forget_best()

    def _mark_again(self, folder: Path, source: Path) -> str | None:
        best = self.monitor.best_step
        places = (checkpoint.path_of(folder, best), checkpoint.path_of(source.parent, best), source)
        for path in (*places, source.parent / checkpoint.BEST):
            try:
                if checkpoint.load(path, needs=("step",))["step"] != best:
                    continue
                checkpoint.mark_best(path, folder)
            except CheckpointError:
                continue
            log.info("%s is that of step %d again, from %s", folder / checkpoint.BEST, best, path)
            return None
        return f"{folder / checkpoint.BEST}: the best checkpoint so far, of step {best}, is missing"

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, as tensors and plain containers; ``model`` is what evaluations saw."""
        averaged: dict[str, Any] = {}
        if self.average is not None:
            averaged = {"training_weights": self.model.state_dict(), "ema_updates": self.average.n_updates}
            with self.averaged():
                averaged["model"] = {key: value.clone() for key, value in self.model.state_dict().items()}
        return {
            "config": as_dict(self.setup.config),
            "packages": components.packages_of(self.setup.config),
            "text_encoder": self.setup.text_encoder.state_dict(),
            "task": self.setup.task.state_dict() if self.setup.task is not None else {},
            "model": self.model.state_dict(),
            "optimizations": {name: o.state_dict() for name, o in self.optimizations.items()},
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "batches_per_epoch": len(self.loader),
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
            CheckpointError: it was made for another model or other optimizers, or is malformed.
        """
        with checkpoint.restoring(source):
            self._restore(state, source)

    def _restore(self, state: dict[str, Any], source: str | Path) -> None:
        checkpoint.load_weights(self.model, state["model"], source)
        if self.average is not None:
            self.average.restart(state.get("ema_updates", 0))
        if "training_weights" in state:
            checkpoint.load_weights(self.model, state["training_weights"], source)
        if state["optimizations"].keys() != self.optimizations.keys():
            found, own = sorted(state["optimizations"]), sorted(self.optimizations)
            raise CheckpointError(f"{source}: holds optimizers {found}, the config has {own}")
        self._restore_position(state)
        if _without_length(state["config"]) != _without_length(as_dict(self.setup.config)):
            self._before_change = frozenset([self.step])
        self.evaluated_at = state["evaluated_at"]
        # Older checkpoints do not repeat what their config says.
        rule = state["config"].get("trainer", {}).get("monitor")
        self.monitor.load_state_dict({"rule": rule, **state["monitor"]})
        self._restore_optimizations(state, same_monitor=rule == self.monitor.rule)
        self.guard.load_state_dict(state["guard"])
        process = min(distributed.rank(), len(state["rng"]) - 1)
        self.window.load_state_dict(state["window"][process], self.device)
        if "logged" in state:
            self.logged.load_state_dict(state["logged"][process], self.device)
        seeding.set_rng_state(state["rng"][process])

    def _restore_position(self, state: dict[str, Any]) -> None:
        """Where in the data to continue: an epoch of another number of batches is entered at the proportional place."""
        self.step, self.epoch, self.batch = state["step"], state["epoch"], state["batch"]
        now = len(self.loader)
        # Older checkpoints do not have it, but all their epochs were alike.
        known = (self.step - self.batch) // self.epoch if self.epoch else max(now, self.batch)
        before = max(1, state.get("batches_per_epoch", known))
        if before != now:
            self.batch = self.batch * now // before
            where = "an epoch has %d batches now, %d before: training continues at batch %d of epoch %d"
            log.warning(where, now, before, self.batch + 1, self.epoch + 1)
        if self.batch >= now:
            self.epoch, self.batch = self.epoch + 1, 0
        self._epoch_shift = self.step - self.position
        if self.section.max_steps is None:
            self.last_step = self.step + max(0, (self.section.epochs or 0) * now - self.position)

    def _restore_optimizations(self, state: dict[str, Any], same_monitor: bool) -> None:
        done = self.position if self.section.max_steps is None else self.step
        for name, optimization in self.optimizations.items():
            saved = state["optimizations"][name]
            if optimization.every == "evaluation" and not same_monitor:
                saved = {**saved, "scheduler": {}}  # the best by another rule
            optimization.load_state_dict(saved, done // self.section.accumulate, self.epoch)
            optimization.set_epoch(self.epoch)


def _without_length(config: dict[str, Any]) -> dict[str, Any]:
    """A config but for when training ends: a run that is only extended is the same run."""
    lengths = ("max_steps", "epochs", "max_hours")
    trainer = config.get("trainer", {})
    return {**config, "trainer": {key: value for key, value in trainer.items() if key not in lengths}}

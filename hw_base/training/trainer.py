"""One training loop for every task. CTC, FastSpeech and GANs differ only in `BaseTrainer.losses`."""

import contextlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from hw_base import checkpoint, distributed, seeding
from hw_base.config.resolve import as_dict
from hw_base.config.schema import TRAIN_SPLIT, Config, steps_of
from hw_base.errors import CheckpointError, HwError, InterruptedRun
from hw_base.nn.losses import SumAndCount, as_sum_and_count
from hw_base.training.ema import EMA
from hw_base.training.guard import Guard
from hw_base.training.interrupts import Interrupts
from hw_base.training.meters import RunningMeans, SplitMeans
from hw_base.training.monitor import Monitor
from hw_base.training.parts import TrainerParts
from hw_base.training.progress import Progress

log = logging.getLogger(__name__)

Batch = dict[str, Any]


class BaseTrainer(ABC):
    """Trains a model; a task overrides `losses`, and `update_metrics` and `compute_metrics` where it has metrics.

    `losses` is a generator. It must be consumed once and in order: each pair it yields is optimised before the next one
    is computed. So a discriminator is updated before the generator's loss is computed, and the generator's forward pass
    is shared in a local variable. Code after the last ``yield`` runs after the last update. Evaluation runs the same
    generator and optimises nothing.

    Attributes:
        default_losses: loss name -> registered type that a bare weight in the config stands for.
        cpu_keys: tensors of the batch that stay on the CPU, where they are checked or only shown.
        one_batch_metric: what ``--one-batch`` looks at.
        one_batch_ratio: one batch is learned when that has fallen to this ratio of its first value.
        step: batches seen.
        epoch: passes over the data that are complete.
        batch: batches of the epoch at hand that are done.
    """

    default_losses: ClassVar[Mapping[str, str]] = {}
    cpu_keys: ClassVar[frozenset[str]] = frozenset()
    one_batch_metric: ClassVar[str] = "loss"
    one_batch_ratio: ClassVar[float] = 0.1

    def __init__(self, setup: TrainerParts) -> None:
        self.setup = setup
        self.model, self.device = setup.model, setup.device
        self.section = setup.config.trainer
        self.optimizations, self.loss_modules = setup.optimizations, setup.losses
        self.weights = {name: loss.weight for name, loss in setup.config.losses.items()}
        self._warmups = {name: loss.warmup_steps for name, loss in setup.config.losses.items()}
        self.networks: dict[str, nn.Module] = self.model.parameter_groups()
        distributed.broadcast_model(self.model)
        self.average = EMA(self.model, self.section.ema_decay) if self.section.ema_decay else None
        self.loader = setup.loaders[TRAIN_SPLIT]
        self.step = self.epoch = self.batch = 0
        self.last_step = self.section.max_steps or (self.section.epochs or 0) * len(self.loader)
        self.eval_every = steps_of(self.section.eval_every or "1 epoch", len(self.loader))
        self.save_every = steps_of(self.section.save_every or self.eval_every, len(self.loader))
        self.window, self.guard = RunningMeans(), Guard(self.section.max_bad_steps)
        self.monitor = Monitor(self.section.monitor, self.section.early_stop, self.section.keep_best)
        self.evaluated_at = self._saved_at = -1
        self.interrupts = Interrupts()
        self._utterances: list[str] = []  # of the update at hand, over all its batches

    @abstractmethod
    def losses(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor | SumAndCount]]]:
        """Yield ``(optimization name, {loss name: value})`` in the order of the updates.

        Networks are called through ``self.networks[name]``. What the metrics need is put into the batch.
        """

    def update_metrics(self, batch: Batch, split: str) -> None:
        """Take an evaluated batch, with what `losses` put into it, into the metrics."""

    def compute_metrics(self, split: str) -> dict[str, float]:
        """The metrics of the split that was just evaluated, over all processes; starts them anew."""
        return {}

    @classmethod
    def metric_names(cls, config: Config) -> list[str]:
        """Names that `compute_metrics` will return, for checking what the config monitors."""
        return list(config.metrics)

    # ------------------------------------------------------------------ the loop

    def train(self) -> dict[str, float]:
        """Train to the end, from wherever the state stands.

        Returns:
            The last evaluation's values, ``val/wer`` and so on.

        Raises:
            InterruptedRun: a signal came; everything is saved.
            DivergedError: too many updates in a row were not finite; everything is saved.
        """
        with self.interrupts, Progress(self.step, self.last_step) as progress:
            values = self._evaluate_if_due(progress)  # a run that was interrupted there owes an evaluation
            while not self._finished():
                self.loader.set_position(self.epoch, self.batch)
                for batch in self.loader:
                    self._named_step(batch)
                    values = self._after_step(progress) or values
                    if self._finished():
                        break
        return values

    def _named_step(self, batch: Batch) -> None:
        try:
            self.train_step(batch)
        except HwError:  # which says itself what is wrong with which utterance
            raise
        except Exception:
            log.error("step %d failed; its utterances: %s", self.step + 1, ", ".join(batch.get("utterance_id", [])))
            raise

    def train_step(self, batch: Batch) -> None:
        """One batch through every update that `losses` asks for."""
        self.model.train()
        batch = self.to_device(batch)
        boundary = (self.step + 1) % self.section.accumulate == 0
        if self.step % self.section.accumulate == 0:
            self._utterances = []
            for optimization in self.optimizations.values():
                optimization.zero_grad()
        self._utterances += batch.get("utterance_id", [])
        for name, losses in self._advance(batch):
            self._update(name, losses, boundary)
        if boundary and self.average is not None:
            self.average.update()
        self.step += 1
        self.batch += 1
        if self.batch == len(self.loader):
            self.epoch, self.batch = self.epoch + 1, 0
            for optimization in self.optimizations.values():
                optimization.end_epoch(self.epoch)

    def _advance(self, batch: Batch) -> Iterator[tuple[str, dict[str, Tensor | SumAndCount]]]:
        """The pairs of `losses`; autocast surrounds the forward passes only."""
        pairs = self.losses(batch)
        while True:
            dtype = self.setup.amp_dtype
            with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                pair = next(pairs, None)
            if pair is None:
                return
            yield pair

    def _update(self, name: str, losses: dict[str, Tensor | SumAndCount], boundary: bool) -> None:
        optimization = self.optimizations[name]
        values = {key: _share(as_sum_and_count(value)) for key, value in losses.items()}
        total = self.total(values)
        optimization.backward(total / self.section.accumulate, last=boundary)
        figures = {key: value.detach() for key, value in {**values, "loss": total}.items()}
        if boundary:
            norm, taken = optimization.update(torch.isfinite(total.detach()))
            figures["grad_norm"] = norm
            self.guard.record(self.step + 1, name, taken, figures, self._utterances)
        for key, value in figures.items():
            self.window.add(self.log_name(name, key), value)

    def total(self, values: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of named losses, at this step of training."""
        return torch.stack([self._weight_now(key) * value for key, value in values.items()]).sum()

    def _weight_now(self, name: str) -> float:
        warmup = self._warmups.get(name, 0)
        share = min(1.0, (self.step + 1) / warmup) if warmup else 1.0
        return share * self.weights.get(name, 1.0)

    def log_name(self, group: str, key: str) -> str:
        """How a figure is logged: ``ctc`` where there is one optimizer, ``generator/mel`` where there are several."""
        return key if len(self.optimizations) == 1 else f"{group}/{key}"

    def to_device(self, batch: Batch) -> Batch:
        """The batch with its tensors on the device."""
        moved = {k for k, v in batch.items() if isinstance(v, Tensor)} - self.cpu_keys
        return {k: v.to(self.device, non_blocking=True) if k in moved else v for k, v in batch.items()}

    def _after_step(self, progress: Progress) -> dict[str, float]:
        """Everything that is done between two steps, in this order."""
        progress.advance()
        log_due = self.step % self.section.log_every == 0 or self._finished()
        try:
            if log_due or self.device.type == "cpu":
                self.guard.read()
            if log_due:
                self._log_training(progress)
            values = self._evaluate_if_due(progress)
        except HwError:
            if not distributed.active():  # the others may be past the point where a state can be gathered
                self._save()
            raise
        if self._due(self.save_every) or self._finished():
            self._save(must=self._finished())
        if self.step % self.section.accumulate == 0 and self._interrupted(log_due):
            self._save()
            message = f"interrupted at step {self.step}, all is saved: --run-dir {self.setup.run_dir} -r auto goes on"
            raise InterruptedRun(self.interrupts.received, message)
        return values

    def _due(self, every: int) -> bool:
        """Whether it is time; with accumulation only after an update, because gradients are not saved."""
        window = self.section.accumulate
        return self.step % window == 0 and self.step // every > (self.step - window) // every

    def _finished(self) -> bool:
        return self.step >= self.last_step or self.monitor.exhausted

    def _interrupted(self, look: bool) -> bool:
        """Whether a signal came; with several processes, to any of them, which is asked for at logged steps only."""
        if not distributed.active():
            return bool(self.interrupts.received)
        if look:
            self.interrupts.received = max(distributed.gather(self.interrupts.received))
            return bool(self.interrupts.received)
        return False

    def _log_training(self, progress: Progress) -> None:
        values = self.window.read()
        for name, optimization in self.optimizations.items():
            values[self.log_name(name, "lr")] = optimization.lr
        values["epoch"] = self.epoch + self.batch / len(self.loader)
        values["skipped_updates"] = float(self.guard.skipped)
        values["steps_per_second"] = progress.rate()
        self.setup.writers.scalars({f"{TRAIN_SPLIT}/{key}": value for key, value in values.items()}, self.step)
        progress.show({key: values[key] for key in values if key.endswith(("loss", "lr"))})

    # ------------------------------------------------------------------ evaluation

    def evaluate(self, split: str) -> dict[str, float]:
        """Losses and metrics of one split.

        Returns:
            Means over all utterances of the split and all processes, by name.

        Raises:
            InterruptedRun: a signal came meanwhile; the evaluation is left undone.
        """
        self.model.eval()
        sums = SplitMeans()
        with torch.no_grad(), seeding.isolated(self.setup.config.seed), self._averaged():
            for batch in self.setup.loaders[split]:
                if self.interrupts.received and not distributed.active():
                    message = f"interrupted while {split} was evaluated; -r auto goes on with that"
                    raise InterruptedRun(self.interrupts.received, message)
                batch = self.to_device(batch)
                for name, losses in self._advance(batch):
                    for key, value in losses.items():
                        sums.add(self.log_name(name, key), as_sum_and_count(value))
                self.update_metrics(batch, split)
        values = sums.means()
        return values | self._totals(values) | self.compute_metrics(split)

    def _averaged(self) -> contextlib.AbstractContextManager[None]:
        """Inside, the model has the weights that are evaluated and saved as its own."""
        return contextlib.nullcontext() if self.average is None else self.average.in_use()

    def _totals(self, values: dict[str, float]) -> dict[str, float]:
        """The weighted sums, from means over the whole split."""
        totals: dict[str, float] = {}
        for name, value in values.items():
            group, slash, key = name.rpartition("/")
            total = f"{group}{slash}loss"
            totals[total] = totals.get(total, 0.0) + self.weights.get(key, 1.0) * value
        return totals

    def _evaluate_if_due(self, progress: Progress) -> dict[str, float]:
        due = self.step > 0 and (self._due(self.eval_every) or self._finished())
        due = due or (self.step == 0 and self.section.eval_first)
        if not due or self.evaluated_at == self.step:
            return {}
        values: dict[str, float] = {}
        started = time.monotonic()
        for split in self.setup.config.evaluation_splits():
            values |= {f"{split}/{name}": value for name, value in self.evaluate(split).items()}
        self.evaluated_at = self.step
        if values:
            self.setup.writers.scalars(values, self.step)
            shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            log.info("step %d: %s (%.1f s)", self.step, shown, time.monotonic() - started)
        if self.monitor.key:
            monitored = values[self.monitor.key]
            better = self.monitor.update(monitored, self.step)
            for optimization in self.optimizations.values():
                optimization.end_evaluation(monitored)
            if better or self.step in self.monitor.best_steps:
                self._save(best=better)
        progress.restart_clock()
        return values

    # ------------------------------------------------------------------ state

    def _save(self, best: bool = False, must: bool = False) -> None:
        """Write a checkpoint; a failure is reported and training goes on, unless this is the last chance."""
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
            log.error("%s; training goes on with the older checkpoints", error)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs, as tensors and plain containers; ``model`` is what evaluations saw."""
        averaged: dict[str, Any] = {}
        if self.average is not None:
            averaged = {"training_weights": self.model.state_dict(), "ema_updates": self.average.n_updates}
            with self._averaged():
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
            "rng": distributed.gather(seeding.rng_state()),
            "writers": self.setup.writers.state_dict(),
            **averaged,
        }

    def load_state_dict(self, state: dict[str, Any], source: str | Path) -> None:
        """Go on exactly where `state_dict` was taken; `source` names it in messages."""
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
        place = min(distributed.rank(), len(state["rng"]) - 1)
        self.window.load_state_dict(state["window"][place], self.device)
        seeding.set_rng_state(state["rng"][place])


def _share(mean: SumAndCount) -> Tensor:
    """This process's part of the global mean, scaled so that averaging over processes gives the global mean."""
    count = distributed.sum_over_processes(mean.count.detach())
    return mean.total * distributed.world_size() / count.clamp(min=1)

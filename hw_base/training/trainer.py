"""One training loop for every task, and how Experiment, Task and Trainer divide the work.

- `hw_base.runs.experiment.Experiment` builds what one config names, in order: text encoder, splits, loaders, model,
  optimizers, trainer. It knows no task.
- `hw_base.task.BaseTask` is what a task (recognition, synthesis) adds to that: the defaults and checks of its configs,
  how an item is made of a record, what the model is given about the data, what ``test.py`` does. It exists before there
  is a model.
- `BaseTrainer`, here, trains and evaluates the model on batches; the loop is `train`, `train_step`, `_update` and
  `_after_step`. A task's trainer overrides `losses`, and `update_metrics` and `compute_metrics` where it has metrics;
  one task may have several trainers.

So a trainer is given everything (`TrainerParts`) and reads no config but its own section, the losses' and the split
names. It is three classes on top of each other: `TrainingState` is what a checkpoint holds, `Evaluator` is what a task
declares and the evaluation of a split, `BaseTrainer` is the loop.

`losses` is a generator. It must be consumed once and in order: each pair it yields is optimized before the next one is
computed. So a discriminator is updated before the generator's loss is computed, and the generator's forward pass is
shared in a local variable. Code after the last ``yield`` runs after the last update. Evaluation runs the same generator
and optimizes nothing.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor

from hw_base import checkpoint, distributed
from hw_base.config.schema import TRAIN_SPLIT, steps_of
from hw_base.errors import CheckpointError, DivergedError, HwError, InterruptedRun, ProcessLostError
from hw_base.nn.losses import SumAndCount, as_sum_and_count
from hw_base.training import watching
from hw_base.training.agreement import check_replicas
from hw_base.training.evaluation import Batch, Evaluator, NamedLosses
from hw_base.training.meters import SplitMeans, in_a_line
from hw_base.training.parts import TrainerParts
from hw_base.training.progress import Progress
from hw_base.watch import origin
from hw_base.watch.diagnosis import Diagnosis, Watch

log = logging.getLogger(__name__)


class BaseTrainer(Evaluator):
    """Trains a model; a task overrides `losses`, and `update_metrics` and `compute_metrics` where it has metrics."""

    def __init__(self, setup: TrainerParts) -> None:
        super().__init__(setup)
        self.eval_every: int | str = self.section.eval_every or "1 epoch"
        self.save_every: int | str = self.section.save_every or self.eval_every
        self._utterances: list[str] = []  # of the current update, over all its batches
        self._given: Batch = {}  # the last batch as the loader gave it
        self._steps = watching.Steps()
        self._origin_sought = False
        self._finite: dict[str, Tensor] = {}  # whether all losses of the current update are, by optimizer

    @cached_property
    def watch(self) -> Watch:
        """Says why a training goes wrong."""
        return Watch(self.watchers(), self.setup.run_dir)

    def train(self) -> dict[str, float]:
        """Train to the end, from wherever the state stands.

        Returns:
            The last evaluation's values, ``val/wer`` and so on.

        Raises:
            InterruptedRun: a signal came; everything is saved.
            DivergedError: too many updates in a row were not finite; everything is saved.
        """
        with self.interrupts, Progress(self.step, self.last_step) as progress:
            values = self._evaluate_if_due(progress)  # what an interrupt skipped
            while not self._finished():
                self.loader.set_position(self.epoch, self.batch)
                for batch in self._batches(progress):
                    self._named_step(batch)
                    values = self._after_step(progress) or values
                    if self._finished():
                        break
        if self.monitor.lost_best is not None:
            value, step = self.monitor.lost_best
            raise CheckpointError(
                f"the best {self.monitor.key}, {value:.4f} at step {step}, could not be saved; "
                f"{checkpoint.BEST} is an older one"
            )
        return values

    def train_step(self, batch: Batch) -> None:
        """One batch through every update that `losses` asks for."""
        self.model.train()
        self._given, batch = batch, self.to_device(batch)
        boundary = (self.step + 1) % self.section.accumulate == 0
        if self.step % self.section.accumulate == 0:
            self._utterances, self._finite = [], {}
            self.buffers.begin()
            for optimization in self.optimizations.values():
                optimization.zero_grad()
            self._steps.begin_update(self.optimizations)
        self._utterances += batch.get("utterance_id", [])
        self._steps.take(batch.get("utterance_id", []))
        if boundary and self._is_read(self.step + 1):
            self.last_good.propose()
        outcomes = []
        for name, losses in self.named_losses(batch):
            outcomes += self._update(name, losses, boundary)
        if self._is_logged(self.step + 1):
            self._steps.log(batch, self.networks)
        if outcomes:
            self.buffers.settle(torch.stack(outcomes).all())
        if boundary and self.average is not None:
            self.average.update()
        self.step += 1
        self.batch += 1
        if self.batch == len(self.loader):
            self.epoch, self.batch = self.epoch + 1, 0
            for optimization in self.optimizations.values():
                optimization.end_epoch(self.epoch)

    def _update(self, name: str, losses: NamedLosses, boundary: bool) -> list[Tensor]:
        """Add gradients, and after the last batch of an update take it; then whether it was taken."""
        optimization = self.optimizations[name]
        means = {key: as_sum_and_count(value) for key, value in losses.items()}
        counts = [mean.count.detach() for mean in means.values()]
        counts = self.agreement.counts(optimization, counts, self._is_read(self.step + 1))
        values = {key: _local_part(means[key], count) for key, count in zip(means, counts, strict=True)}
        total = self.weights.total(values, self.step + 1)
        optimization.backward(total / self.section.accumulate, last=boundary)
        shown = {key: value.detach() for key, value in {**values, "loss": total}.items()}
        outcomes = []
        finite = torch.isfinite(total.detach())
        self._finite[name] = finite = finite & self._finite.get(name, finite)
        if boundary:
            finite, loss = _agreed(finite, total.detach())
            norm, taken = optimization.update(finite)
            outcomes.append(taken)
            shown["grad_norm"] = norm
            self.guard.record(self.step + 1, name, taken, {**shown, "loss": loss}, self._utterances)
        for key, value in shown.items():
            self.window.add(self.log_name(name, key), value)
        return outcomes

    def _after_step(self, progress: Progress) -> dict[str, float]:
        """Everything that is done between two steps, in this order."""
        progress.advance()
        log_due = self.step % self.section.log_every == 0 or self._finished()
        try:
            if self._is_read(self.step) or log_due:
                self._read_guard()
            row = self._log_training(progress) if log_due else {}
            values = self._evaluate_if_due(progress)
            if row or values:
                self.watch.look(watching.seen(self, row, values, self._steps))
        except HwError as error:
            self._end_early(error)
        if self._due(self.save_every) or self._finished():
            self.save(must=self._finished())
        if self.step % self.section.accumulate == 0 and self._interrupted(log_due):
            saved = "all is saved" if self.save() else "which could NOT be saved (see above)"
            resume = f"resume with --run-dir {self.setup.run_dir} -r auto"
            message = f"{self.interrupts.reason} at step {self.step}, {saved}: {resume}"
            raise InterruptedRun(self.interrupts.received, message)
        return values

    def _batches(self, progress: Progress) -> Iterator[Batch]:
        """Batches of training; what ends them too early is raised when everything is saved."""
        try:
            batches = iter(self.loader)
            while True:
                with progress.waiting():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch
        except HwError:
            if not distributed.active():  # the others may be past the point where a state can be gathered
                self.save()
            raise

    def _named_step(self, batch: Batch) -> None:
        try:
            self.train_step(batch)
        except HwError:  # which says itself what is wrong with which utterance
            raise
        except Exception:
            log.error("step %d failed; its utterances: %s", self.step + 1, ", ".join(batch.get("utterance_id", [])))
            raise

    def _is_logged(self, step: int) -> bool:
        return step % self.section.log_every == 0 or step >= self.last_step

    def _is_read(self, step: int) -> bool:
        """Whether the guard looks at the updates right after this step: a GPU would have to be waited for."""
        return self.device.type == "cpu" or self._is_logged(step)

    def _read_guard(self) -> None:
        """Look at the updates since the last time; of the first bad one say where it began."""
        try:
            self.guard.read()
        finally:
            if self.guard.bad and self.guard.bad[-1][0] == self.step and not self._origin_sought:
                self._origin_sought = True
                self.watch.say(self.step, [self._origin(self.guard.bad[-1][1])])
        if self.guard.clean:
            self.last_good.confirm()

    def _origin(self, values: Mapping[str, Tensor]) -> Diagnosis:
        meter, self._meter = self._meter, SplitMeans()
        try:
            return origin.find(
                self.networks, lambda: list(self.named_losses(self.to_device(self._given))), self._given, values
            )
        finally:
            self._meter = meter

    def _end_early(self, error: HwError) -> NoReturn:
        """Save what an error leaves; after a divergence, the last good weights."""
        if self.guard.in_trouble and not isinstance(error, DivergedError | InterruptedRun | ProcessLostError):
            error = DivergedError(f"{error}; the updates before were bad as well")  # a decoder refuses NaN, say
        diverged = isinstance(error, DivergedError)
        if diverged:
            self.last_good.restore()
            self.guard.start_anew()
        # Of several processes the others may be past the point where a state can be gathered, unless all diverged.
        if diverged or not distributed.active():
            self.save()
        raise error

    def _due(self, interval: int | str) -> bool:
        """Whether it is time; with accumulation only after an update, because gradients are not saved."""
        window, every = self.section.accumulate, steps_of(interval, len(self.loader))
        done = self.step if isinstance(interval, int) else self.step - self._epoch_shift
        return self.step % window == 0 and done // every > (done - window) // every

    def _finished(self) -> bool:
        return self.step >= self.last_step or self.monitor.exhausted

    def _interrupted(self, look: bool) -> bool:
        """Whether a signal came; with several processes, to any of them, which is asked for at logged steps only."""
        if not distributed.active():
            return bool(self.interrupts.look())
        if look:
            self.interrupts.received = max(distributed.gather(self.interrupts.look()))
            return bool(self.interrupts.received)
        return False

    def _log_training(self, progress: Progress) -> dict[str, float]:
        values = self.window.read() | self.logged.read()
        for name, optimization in self.optimizations.items():
            values[self.log_name(name, "lr")] = optimization.lr
        values["epoch"] = self.epoch + self.batch / len(self.loader)
        values["skipped_updates"] = float(self.guard.skipped)
        values["data_wait"] = progress.data_wait()
        values["steps_per_second"] = progress.rate()
        self.setup.writers.scalars({f"{TRAIN_SPLIT}/{key}": value for key, value in values.items()}, self.step)
        progress.show({key: values[key] for key in values if key.endswith(("loss", "lr"))})
        return values

    def _evaluate_if_due(self, progress: Progress) -> dict[str, float]:
        due = self.step > 0 and (self._due(self.eval_every) or self._finished())
        due = due or (self.step == 0 and self.section.eval_first)
        if not due or self.evaluated_at == self.step:
            return {}
        check_replicas(self.model.state_dict())
        values: dict[str, float] = {}
        started = time.monotonic()
        with self.setup.writers.held():  # an interrupted evaluation is repeated: nothing of it may be reported twice
            for split in self.setup.config.evaluation_splits():
                values |= {f"{split}/{name}": value for name, value in self.evaluate(split).items()}
        self.evaluated_at = self.step
        if values:
            self.setup.writers.scalars(values, self.step)
            log.info("step %d: %s (%.1f s)", self.step, in_a_line(values), time.monotonic() - started)
        if self.monitor.key:
            self._follow(values[self.monitor.key])
        progress.restart_clock()
        return values

    def _follow(self, monitored: float) -> None:
        """Give the value that the config monitors to the monitor and to the schedules that depend on it."""
        before = self.monitor.state_dict()
        better = self.monitor.update(monitored, self.step)
        for optimization in self.optimizations.values():
            optimization.end_evaluation(monitored)
        if (better or self.step in self.monitor.best_steps) and not self.save(best=better):
            self.monitor.undo(before, monitored, self.step)


def _agreed(finite: Tensor, loss: Tensor) -> tuple[Tensor, Tensor]:
    """Whether the loss is finite in all processes, and its mean: else some would skip an update that others take."""
    if not distributed.active():
        return finite, loss
    count, total = distributed.sum_over_processes(torch.stack([finite.to(loss.dtype), loss]))
    return count == distributed.world_size(), total / distributed.world_size()


def _local_part(mean: SumAndCount, count: Tensor) -> Tensor:
    """This process's part of the global mean, scaled so that averaging over processes gives the global mean.

    Args:
        mean: of this process.
        count: of all processes together.
    """
    return mean.total * distributed.world_size() / count.clamp(min=1)

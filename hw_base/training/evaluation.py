"""What a task fills in, and evaluation: the same losses as in training, with no updates, over whole splits."""

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from hw_base import distributed, seeding
from hw_base.config.schema import Config
from hw_base.errors import ConfigError, InterruptedRun
from hw_base.nn.losses import SumAndCount, as_sum_and_count
from hw_base.training.interrupts import Interrupts
from hw_base.training.meters import SplitMeans
from hw_base.training.parts import TrainerParts
from hw_base.training.state import TrainingState
from hw_base.training.watching import watchers_of_the_loop
from hw_base.watch.diagnosis import Watcher

log = logging.getLogger(__name__)

Batch = dict[str, Any]
NamedLosses = dict[str, Tensor | SumAndCount]

_TAKEN = ("loss", "lr", "grad_norm", "epoch", "skipped_updates", "steps_per_second", "data_wait", "step", "split")


class Evaluator(TrainingState, ABC):
    """Evaluates a model with what a task declares here; the docstring of `hw_base.training.trainer` explains how.

    Attributes:
        default_losses: loss name -> registered type that a bare weight in the config stands for.
        cpu_keys: tensors of the batch that stay on the CPU, where they are checked or only shown.
        one_batch_metric: what ``--one-batch`` looks at.
        one_batch_ratio: one batch is learned when that has fallen to this ratio of its first value.
    """

    default_losses: ClassVar[Mapping[str, str]] = {}
    cpu_keys: ClassVar[frozenset[str]] = frozenset()
    one_batch_metric: ClassVar[str] = "loss"
    one_batch_ratio: ClassVar[float] = 0.1

    def __init__(self, setup: TrainerParts) -> None:
        super().__init__(setup)
        self.interrupts = Interrupts(self.section.max_hours)
        self._meter = self.logged  # where `log` puts its values: of training, or of the split that is evaluated

    @abstractmethod
    def losses(self, batch: Batch) -> Iterator[tuple[str, NamedLosses]]:
        """Yield ``(optimization name, {loss name: value})`` in the order of the updates.

        Every name must stand in the config's ``losses``, which weigh it. Networks are called through
        ``self.networks[name]``. What the metrics need is put into the batch.
        """

    def update_metrics(self, batch: Batch, split: str) -> None:
        """Take an evaluated batch, with what `losses` put into it, into the metrics."""

    def compute_metrics(self, split: str) -> dict[str, float]:
        """The metrics of the split that was just evaluated, over all processes; resets them."""
        return {}

    def compare(self, batch: Batch) -> list[str]:
        """What the model makes of a batch beside what it should, in lines for people; for ``--one-batch``."""
        return []

    def watchers(self) -> list[Watcher]:
        """What is looked at in training to say why it goes wrong; a task adds its own to those of the loop."""
        return watchers_of_the_loop()

    @classmethod
    def metric_names(cls, config: Config) -> list[str]:
        """Names that `compute_metrics` and `log` will give, for checking what the config monitors."""
        return list(config.metrics)

    def log(self, values: Mapping[str, float | Tensor | SumAndCount]) -> None:
        """Report values that are not optimized; to be called within `losses` or `update_metrics`.

        In training each is averaged over the steps since the last logged one (``train/NAME``), in an evaluation over
        the split (``val/NAME``); both over all processes.

        Args:
            values: by name; a scalar, or a `SumAndCount` where batches weigh differently.

        Raises:
            ConfigError: a name is that of a loss, or of something that the loop logs itself.
        """
        for name, value in values.items():
            if name in self.setup.config.losses or name in _TAKEN:
                raise ConfigError(f"self.log({{{name!r}: ...}}): this name is in use; give the value another one")
            if not isinstance(value, SumAndCount):
                value = as_sum_and_count(torch.as_tensor(value))
            self._meter.add(name, value)

    def shows(self, split: str, utterance_id: str) -> bool:
        """Whether an utterance is one of the few that the writers are given at every evaluation."""
        return utterance_id in self.setup.loaders[split].split.examples(self.section.examples)

    def shows_recordings(self) -> bool:
        """Whether the writers are to be given what never changes; once a run, at its first evaluation."""
        return self.evaluated_at < 0

    @staticmethod
    def example_name(split: str, speaker: str | None, utterance_id: str) -> str:
        """``val/p225/p225_001``: what the writers' names of an utterance's audio and pictures begin with."""
        return "/".join(part for part in (split, speaker, utterance_id) if part)

    def log_name(self, group: str, key: str) -> str:
        """How a value is logged: ``ctc`` where there is one optimizer, ``generator/mel`` where there are several."""
        return key if len(self.optimizations) == 1 else f"{group}/{key}"

    def to_device(self, batch: Batch) -> Batch:
        """The batch with its tensors on the device, and its lengths under ``cpu_lengths`` for what asks the host."""
        moved = {k for k, v in batch.items() if isinstance(v, Tensor)} - self.cpu_keys
        on_device = {k: v.to(self.device, non_blocking=True) if k in moved else v for k, v in batch.items()}
        return {**on_device, "cpu_lengths": {k: batch[k] for k in moved if k.endswith("_length")}}

    def named_losses(self, batch: Batch) -> Iterator[tuple[str, NamedLosses]]:
        """The pairs of `losses`; autocast surrounds the forward passes only."""
        pairs = self.losses(batch)
        while True:
            dtype = self.setup.amp_dtype
            with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
                pair = next(pairs, None)
            if pair is None:
                return
            yield pair

    @contextlib.contextmanager
    def without_trace(self) -> Iterator[None]:
        """Inside, losses may be computed and their gradients taken; afterwards everything is as it was."""
        modules = [self.model, *self.loss_modules.values()]
        buffers = [(buffer, buffer.clone()) for module in modules for buffer in module.buffers()]
        training, meter, self._meter = self.model.training, self._meter, SplitMeans()
        gradients = {parameter: parameter.grad for parameter in self.model.parameters()}
        for parameter in gradients:
            parameter.grad = None
        try:
            with seeding.isolated(self.setup.config.seed):
                yield
        finally:
            self._meter = meter
            self.model.train(training)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)

    def evaluate(self, split: str) -> dict[str, float]:
        """Losses and metrics of one split.

        Returns:
            Means over all utterances of the split and all processes, by name.

        Raises:
            InterruptedRun: a signal came meanwhile; the evaluation is left undone.
            ConfigError: a loss has no weight in the config.
        """
        self.model.eval()
        means, self._meter = SplitMeans(), SplitMeans()
        try:
            with torch.no_grad(), seeding.isolated(self.setup.config.seed), self.averaged():
                for batch in self.setup.loaders[split]:
                    self._stop_if_interrupted(split)
                    batch = self.to_device(batch)
                    for name, losses in self.named_losses(batch):
                        for key, value in losses.items():
                            means.add(self.log_name(name, key), as_sum_and_count(value))
                    self.update_metrics(batch, split)
            values = means.read()
            values |= self.weights.totals(values) | self._meter.read()
        finally:
            self._meter = self.logged
        return values | self.compute_metrics(split)

    def _stop_if_interrupted(self, split: str) -> None:
        if self.interrupts.received and not distributed.active():
            message = f"interrupted during the evaluation of {split}; it is repeated on resume (-r auto)"
            raise InterruptedRun(self.interrupts.received, message)

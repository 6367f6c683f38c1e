"""The time and memory of training steps: the forward pass by modules, backward, optimizer; and of evaluations."""

import contextlib
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hw_base.profiling.clock import Clock
from hw_base.training.trainer import BaseTrainer

WARM_UP = 2
FORWARD, BACKWARD, OPTIMIZER, MOVE = "forward", "backward", "optimizer", "to the device"
REST = "the rest of the step"
OTHERS = "outside of these modules"


def measure(trainer: BaseTrainer, batches: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Seconds of a step by stage; the weights are trained meanwhile.

    Args:
        trainer: of an experiment that serves for this alone.
        batches: as many steps are taken, after a few that are not counted.

    Returns:
        Of the forward pass ``forward: NETWORK.MODULE`` for each module.
    """
    for batch in batches[:WARM_UP]:
        trainer.train_step(dict(batch))
    clock = Clock(trainer.device)
    with _watched(trainer, clock):
        for batch in batches:
            with clock.running(REST):
                trainer.train_step(dict(batch))
                trainer.guard.read()
    return {stage: seconds / len(batches) for stage, seconds in clock.seconds.items()}


@contextlib.contextmanager
def _watched(trainer: BaseTrainer, clock: Clock) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for optimization in trainer.optimizations.values():
            stack.enter_context(clock.around(optimization, "backward", BACKWARD))
            stack.enter_context(clock.around(optimization, "update", OPTIMIZER))
        stack.enter_context(clock.around(trainer, "to_device", MOVE))
        stack.enter_context(_forward(trainer, clock))
        yield


@contextlib.contextmanager
def _forward(trainer: BaseTrainer, clock: Clock) -> Iterator[None]:
    """Inside, each call of a module is a stage, and so is what else happens between two updates."""
    original = trainer.named_losses

    def named_losses(batch: dict[str, Any]) -> Iterator[Any]:
        pairs = original(batch)
        while True:
            with clock.running(f"{FORWARD}: {OTHERS}"):
                pair = next(pairs, None)
            if pair is None:
                return
            yield pair

    handles = []
    for label, module in modules_of(trainer.networks, trainer.loss_modules):

        def begin(*_: Any, label: str = label) -> None:
            clock.enter(f"{FORWARD}: {label}")

        def end(*_: Any) -> None:
            clock.leave()

        handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end, always_call=True)]
    setattr(trainer, "named_losses", named_losses)  # noqa: B010 - a method of this one object
    try:
        yield
    finally:
        delattr(trainer, "named_losses")
        for handle in handles:
            handle.remove()


def modules_of(networks: Mapping[str, nn.Module], losses: Mapping[str, nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """The parts of all networks with their names; of a list of modules each has the list's."""
    for group, network in networks.items():
        prefix = f"{group}." if len(networks) > 1 else ""
        yield from ((prefix + name, module) for name, module in _parts(network))
    yield from ((f"loss {name}", module) for name, module in losses.items())


def _parts(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict):  # which is not called itself
            yield from ((name, module) for module in child.children())
        else:
            yield name, child


def kept_for_backward(trainer: BaseTrainer, batch: dict[str, Any]) -> dict[str, int]:
    """Bytes that the forward pass keeps for the backward pass, by module, each tensor counted once."""
    clock = Clock(trainer.device)
    owners: dict[int, tuple[str, int]] = {}
    own = {p.untyped_storage().data_ptr() for p in trainer.model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        owners.setdefault(storage.data_ptr(), (clock.stage.removeprefix(f"{FORWARD}: "), storage.nbytes()))
        return tensor

    with trainer.without_trace(), _forward(trainer, clock):
        trainer.model.train()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            held = list(trainer.named_losses(trainer.to_device(dict(batch))))  # so that no address is used twice
        del held
    sizes: dict[str, int] = {}
    for place, (label, size) in owners.items():
        if place not in own:
            sizes[label] = sizes.get(label, 0) + size
    return sizes


class _Head:
    """The first batches of a loader."""

    def __init__(self, loader: Any, n: int) -> None:
        self._loader, self._n = loader, n

    def __iter__(self) -> Iterator[Any]:
        return itertools.islice(iter(self._loader), self._n)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


def evaluation(trainer: BaseTrainer, n: int) -> float:
    """Seconds that all evaluation splits would take, by ``n`` batches of each."""
    total = 0.0
    for split in trainer.setup.config.evaluation_splits():
        loader = trainer.setup.loaders[split]
        taken = min(n, len(loader))
        try:
            for counted in (1, taken):  # the first time loads what only evaluations need
                trainer.setup.loaders[split] = _Head(loader, counted)
                started = time.perf_counter()
                trainer.evaluate(split)
                seconds = time.perf_counter() - started
        finally:
            trainer.setup.loaders[split] = loader
        total += seconds * len(loader) / taken
    return total

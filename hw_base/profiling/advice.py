"""What was measured of one config, and what would help its largest part."""

import resource
from dataclasses import dataclass

import torch

from hw_base.config.schema import steps_of
from hw_base.data.loader import Loader
from hw_base.profiling import reading, steps
from hw_base.training.trainer import BaseTrainer

DATA, EVALUATION = "waiting for data", "evaluation"
# More readers than this rarely make a training wait less.
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Profile:
    """Seconds of one step, and bytes.

    Attributes:
        n_steps: how many were measured.
        parts: the whole of a step, by what it is spent on.
        making: of making one batch, by stage; in the workers, if there are any.
        forward: of the forward pass, by module.
        memory: weights, gradients, moments, and what the forward pass keeps, by module.
        evaluation: of one evaluation, all splits.
        training: of the whole training.
        peak: bytes of this process at most, or of the GPU.
        padding: share of the batches.
        suggestion: one.
    """

    n_steps: int
    parts: dict[str, float]
    making: dict[str, float]
    forward: dict[str, float]
    memory: dict[str, int]
    evaluation: float
    training: float
    peak: int
    padding: float
    suggestion: str

    @property
    def step(self) -> float:
        """Seconds of a step with its share of the evaluations."""
        return sum(self.parts.values())


def measure(trainer: BaseTrainer, n: int) -> Profile:
    """Measure steps of a trainer that serves for this alone.

    Args:
        trainer: on its device, at the beginning.
        n: batches and steps to measure; no more than an epoch has.
    """
    batches, making = reading.measure(trainer.loader, n)
    batches = batches[:n]
    memory = _memory(trainer, batches[0])
    found = steps.measure(trainer, batches)
    evaluation = steps.evaluation(trainer, n)
    prefix = f"{steps.FORWARD}: "
    forward = {stage.removeprefix(prefix): seconds for stage, seconds in found.items() if stage.startswith(prefix)}
    parts = {stage: seconds for stage, seconds in found.items() if not stage.startswith(prefix)}
    parts[steps.FORWARD] = sum(forward.values())
    interval = steps_of(trainer.eval_every, len(trainer.loader))
    workers = trainer.loader.workers
    computing = sum(parts.values())
    made = sum(making.values())
    parts[DATA] = made if not workers else max(0.0, made / workers - computing)
    parts[EVALUATION] = evaluation / interval
    return Profile(
        n_steps=len(batches),
        parts=_largest_first(parts),
        making=_largest_first(making),
        forward=_largest_first(forward),
        memory=memory,
        evaluation=evaluation,
        training=sum(parts.values()) * trainer.last_step,
        peak=_peak(trainer.device),
        padding=trainer.loader.sampler.padding(),
        suggestion=_suggestion(trainer, parts, making, forward),
    )


def _suggestion(
    trainer: BaseTrainer, parts: dict[str, float], making: dict[str, float], forward: dict[str, float]
) -> str:
    """What would help the largest part."""
    largest = max(parts, key=lambda part: parts[part])
    if largest == DATA:
        return _of_data(trainer.loader, making)
    if largest == EVALUATION:
        return "evaluate less often (trainer.eval_every), on fewer utterances (data.SPLIT.limit), or in larger batches"
    if largest == steps.OPTIMIZER:
        return "update less often, with more batches for each update (trainer.accumulate), or train a smaller model"
    if largest == steps.MOVE:
        return "the batches are large for what is computed of them: check whether the model takes all that is in them"
    cpu = trainer.device.type == "cpu"
    if trainer.setup.amp_dtype is None and (not cpu or torch.cpu._is_avx512_bf16_supported()):
        return "compute in bfloat16 (trainer.amp=bf16), which this device is faster in"
    padding = trainer.loader.sampler.padding()
    if padding > 0.1:
        return f"{100 * padding:.0f} % of the batches is padding: lower data.train.jitter, or set max_batch_seconds"
    if cpu and torch.cuda.is_available():
        return "train on the GPU of this machine (--device cuda)"
    most = max(forward, key=lambda module: forward[module])
    share = forward[most] / sum(forward.values())
    rate = "on a GPU larger batches cost less for each utterance (data.train.batch_size)"
    if cpu:
        rate = f"{torch.get_num_threads()} threads compute; python -m hw_base.profile --threads N tries another number"
    return f"{100 * share:.0f} % of the forward pass is {most!r}: a smaller one saves most; {rate}"


def _of_data(loader: Loader, making: dict[str, float]) -> str:
    largest = max(making, key=lambda stage: making[stage])
    split = loader.split
    if largest in ("read files", "decode", "features", reading.REST) and split.cache is None:
        return f"keep what was read for later epochs (data.{split.name}.cache=memory): most of it is {largest!r}"
    more = min(_MOST_WORKERS, 2 * loader.workers or 2)
    return f"make batches in {more} processes (data.{split.name}.workers={more}): most of it is {largest!r}"


def _memory(trainer: BaseTrainer, batch: dict[str, object]) -> dict[str, int]:
    weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    moments = sum(optimization.moments_size() for optimization in trainer.optimizations.values())
    gradients = sum(p.numel() * p.element_size() for o in trainer.optimizations.values() for p in o.parameters)
    kept = steps.kept_for_backward(trainer, batch)
    activations = {f"kept for backward: {module}": size for module, size in kept.items() if size}
    return {"weights": weights, "gradients": gradients, "moments": moments} | dict(
        sorted(activations.items(), key=lambda pair: -pair[1])
    )


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _largest_first(values: dict[str, float]) -> dict[str, float]:
    return dict(sorted(values.items(), key=lambda pair: -pair[1]))

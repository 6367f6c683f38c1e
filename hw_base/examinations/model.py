"""Examinations of model and losses on a few utterances; nothing of the run is changed."""

import math
import time
from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hw_base import registry
from hw_base.config.resolve import build
from hw_base.config.schema import OptimizerSection
from hw_base.examinations.findings import Finding, listed
from hw_base.examinations.page import plot
from hw_base.nn.losses import as_sum_and_count
from hw_base.training.trainer import BaseTrainer
from hw_base.watch import origin

# Large models get fewer updates.
_SECONDS = 20.0
_PASSES = 4  # layers that are skipped at random run in one of them
_MOST_DROPOUT = 0.7  # published recipes have 0.5 at most


def features(batch: dict[str, Any], where: str) -> Generator[Finding, None, bool]:
    """Whether features are finite and of a sane size.

    Returns:
        Whether they are finite: otherwise every examination of the model would be about that.
    """
    x, length = batch.get("spectrogram"), batch.get("spectrogram_length")
    if not isinstance(x, Tensor) or not isinstance(length, Tensor):
        return True
    valid = torch.cat([row[:, :n].flatten() for row, n in zip(x, length.tolist(), strict=True)]).float()
    bad = [
        name
        for name, row, n in zip(batch["utterance_id"], x, length.tolist(), strict=True)
        if not bool(torch.isfinite(row[:, :n]).all())
    ]
    if bad:
        causes = ["an augmentation divides by zero", "the logarithm of zero", "NaN samples"]
        yield Finding("error", f"{where}: features are not finite", listed(bad), causes, "try without augmentations")
        return False
    mean, deviation = float(valid.mean()), float(valid.std())
    evidence = f"mean {mean:.3g}, deviation {deviation:.3g}"
    if not (abs(mean) < 15 and 1e-2 < deviation < 15):
        causes = [
            "features are not logarithmic, or logarithms taken twice",
            "no normalization",
            "masks hide everything",
        ]
        yield Finding("error", f"{where}: features are out of range", evidence, causes, "look at features.args")
    else:
        yield Finding("ok", f"{where}: features are finite", evidence)
    return True


def first_losses(trainer: BaseTrainer, batch: dict[str, Any]) -> Generator[Finding, None, bool]:
    """Whether losses are finite, their gradients reach every parameter that is trained, and running statistics change.

    Returns:
        Whether they are finite: otherwise no update of the model says anything.
    """
    missing: set[str] = set()
    values: dict[str, float] = {}
    norms: list[tuple[str, Any, Tensor]] = [
        (name, module, module.running_mean.clone())
        for name, module in _modules(trainer)
        if isinstance(getattr(module, "running_mean", None), Tensor)
    ]
    with trainer.without_trace():
        trainer.model.train()
        for _ in range(_PASSES):
            for group, losses in trainer.named_losses(trainer.to_device(dict(batch))):
                means = {key: as_sum_and_count(value) for key, value in losses.items()}
                fractions = {key: mean.total / mean.count.clamp(min=1) for key, mean in means.items()}
                values |= {trainer.log_name(group, key): float(value.detach()) for key, value in fractions.items()}
                total = trainer.weights.total(fractions, 10**9)
                if total.requires_grad:
                    total.backward()  # type: ignore[no-untyped-call]
            missing = {
                name
                for network in trainer.networks.values()
                for name, parameter in network.named_parameters()
                if parameter.requires_grad and parameter.grad is None
            }
            if not missing:
                break
        # Norms that are frozen, or evaluated on purpose, keep theirs.
        stuck = [
            name
            for name, module, before in norms
            if module.training and _has_gradient(module) and torch.equal(module.running_mean, before)
        ]
    shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
    finite = all(map(math.isfinite, values.values()))
    if not finite:
        yield _not_finite(trainer, batch, values, shown)
    else:
        yield Finding("ok", "the first losses are finite", shown)
    if missing:
        causes = ["an output is cut off by detach() or no_grad()", "layers that forward does not use"]
        advice = "mend the model, or freeze what is not meant to be trained"
        evidence = f"{len(missing)}: {listed(sorted(missing))}"
        yield Finding("error", "parameters without a gradient", evidence, causes, advice)
    else:
        yield Finding("ok", "a gradient reaches every parameter that is trained")
    if stuck:
        causes = ["a momentum of 0", "forward does not write to running_mean and running_var"]
        evidence = f"{len(stuck)}: {listed(stuck)}; in evaluation they normalize by values that fit nothing"
        yield Finding("error", "running statistics never change", evidence, causes, "a momentum of 0.1 is usual")
    return finite


def _has_gradient(module: nn.Module) -> bool:
    parameters = list(module.parameters(recurse=False))
    return not parameters or any(parameter.grad is not None for parameter in parameters)


def _modules(trainer: BaseTrainer) -> Iterator[tuple[str, Any]]:
    """All modules of all networks, with their names."""
    for network in trainer.networks.values():
        yield from network.named_modules()


def dropout(trainer: BaseTrainer) -> Iterator[Finding]:
    """Whether a dropout leaves next to nothing of what a layer sees."""
    kinds = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
    high = [(name, m.p) for name, m in _modules(trainer) if isinstance(m, kinds) and m.p > _MOST_DROPOUT]
    if high:
        causes = ["the share that is kept was given in place of the one that is dropped"]
        evidence = listed([f"{p:g} in {name}" for name, p in high])
        yield Finding("warning", "dropout hides nearly everything", evidence, causes, "0.1 to 0.3 are usual")


def _not_finite(trainer: BaseTrainer, batch: dict[str, Any], values: dict[str, float], shown: str) -> Finding:
    """Where losses that are not finite come from."""
    with trainer.without_trace():
        found = origin.find(
            trainer.networks,
            lambda: list(trainer.named_losses(trainer.to_device(dict(batch)))),
            batch,
            {name: torch.tensor(value) for name, value in values.items()},
        )
    return Finding("error", f"the first losses are not finite: {found.sentence}", shown, found.causes, found.advice)


def learns(trainer: BaseTrainer, batch: dict[str, Any], steps: int = 40) -> Iterator[Finding]:
    """Whether the losses of one batch fall; changes the model, so it comes last."""
    seen: list[float] = []
    started = time.monotonic()
    while len(seen) < steps and (len(seen) < 6 or time.monotonic() - started < _SECONDS):
        trainer.train_step(dict(batch))
        values = trainer.window.read()
        seen.append(sum(value for name, value in values.items() if name.rpartition("/")[2] == trainer.one_batch_metric))
    start, end = sum(seen[:3]) / 3, sum(seen[-3:]) / 3
    evidence = f"{trainer.one_batch_metric} {start:.4g} -> {end:.4g} in {len(seen)} updates"
    if not math.isfinite(end) or end > 1.5 * abs(start):
        causes = ["the learning rate is too high", "a loss without a lower bound"]
        yield Finding("error", "one batch: the loss grows", evidence, causes, "try a tenth of the learning rate")
    elif end > 0.99 * start and len(seen) == steps and len(trainer.networks) == 1:
        causes = ["the learning rate is too low", "gradients are clipped to nothing", "lengths or the blank are wrong"]
        yield Finding("warning", "one batch: the loss does not fall", evidence, causes, "see train.py --one-batch")
    else:
        yield Finding("ok", "one batch is being learned", evidence)


def lr_range(trainer: BaseTrainer, batch: dict[str, Any], steps: int = 30) -> Iterator[Finding]:
    """A range test (Smith 2017, "Cyclical Learning Rates"): the config's optimizer, at rates that grow at each update.

    They run from a hundredth of the configured rate to a hundred times as much, unless the loss explodes before.
    """
    if len(trainer.optimizations) > 1:
        return
    name = next(iter(trainer.optimizations))
    section = trainer.setup.config.optimizers[name]
    configured = section.args.get("lr")
    if not isinstance(configured, float):
        return
    rates, losses = _followed(
        trainer, batch, section, [configured * 10 ** (4 * i / (steps - 1) - 2) for i in range(steps)]
    )
    if not math.isfinite(losses[0]):  # `first_losses` says it; chance decides where layers are skipped at random
        return
    first, least = losses[0], min(losses)
    best = losses.index(least)
    # From here on a fifth of what was gained is lost again.
    turns = [i for i in range(best + 1, len(losses)) if not min(losses[i:]) < least + 0.2 * (first - least)]
    evidence = f"{configured:.2g} is configured; the loss fell from {first:.3g} to {least:.3g} until {rates[best]:.2g}"
    evidence += f" and grows from {rates[turns[0]]:.2g} on" if turns else f", and was followed to {rates[-1]:.2g}"
    picture = plot(rates, losses, "learning rate", "loss of one batch", log_x=True, mark=configured)
    if turns and rates[turns[0]] <= configured:
        causes = ["the learning rate is too high for this model"]
        yield Finding("error", "the learning rate is too high", evidence, causes, "try a tenth of it", picture)
    elif min(losses[: len(losses) * 9 // 10]) > 0.97 * first:
        causes = ["the learning rate is too low", "gradients do not reach the weights"]
        what = "the learning rate is too low: even fifty times as much hardly moves the loss"
        yield Finding("warning", what, evidence, causes, "try a hundred times as much", picture)
    else:
        yield Finding("ok", "the learning rate is in the range", evidence, picture=picture)


def _followed(
    trainer: BaseTrainer, batch: dict[str, Any], section: OptimizerSection, rates: list[float]
) -> tuple[list[float], list[float]]:
    """Rates and losses, as far as the loss did not explode; the weights are restored."""
    weights = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    parameters = [p for p in trainer.model.parameters() if p.requires_grad]
    optimizer = build("optimizers", section, registry.OPTIMIZERS, params=parameters)
    losses: list[float] = []
    for rate in rates:
        trainer.model.train()
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        for _, values in trainer.named_losses(trainer.to_device(dict(batch))):
            means = {key: as_sum_and_count(value) for key, value in values.items()}
            total = trainer.weights.total({k: m.total / m.count.clamp(min=1) for k, m in means.items()}, 10**9)
            total.backward()  # type: ignore[no-untyped-call]
            losses.append(float(total.detach()))
        torch.nn.utils.clip_grad_norm_(parameters, section.clip_norm or math.inf)
        optimizer.step()
        if not math.isfinite(losses[-1]) or losses[-1] > 2 * abs(losses[0]) + 1:
            break
    trainer.model.load_state_dict(weights)
    optimizer.zero_grad()
    return rates[: len(losses)], losses

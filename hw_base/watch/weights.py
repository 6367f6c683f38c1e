"""Watchers of parameters: which learn, how fast, and what their gradients are like."""

import math
import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from hw_base.watch.diagnosis import NOT_LEARNING, Diagnosis, InARow, Layer, Recent, Seen, Watcher

# A parameter that had no gradient in so many looks, over so many steps, gets none.
_LOOKS, _STEPS = 4, 8


class Untrained(Watcher):
    """Parameters that no gradient reaches, or that never move, though the config does not freeze them."""

    follows = {"never_moves": NOT_LEARNING}

    def __init__(self) -> None:
        self.looks, self.first_step = 0, 0
        self.reached: set[str] = set()
        self.moved: set[str] = set()

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        if not seen.layers:
            return
        self.looks += 1
        self.first_step = self.first_step or seen.step
        # A gradient of exactly 0 in every look is none.
        self.reached |= {one.name for one in seen.layers if one.gradient}
        self.moved |= {one.name for one in seen.layers if one.update is None or one.update > 0}
        if self.looks < _LOOKS or seen.step - self.first_step < _STEPS:
            return
        expected = [one for one in seen.layers if not one.allowed_frozen]
        idle = [one for one in expected if one.name not in self.reached]
        yield from self._idle(idle, len(expected), seen.step)
        still = [one.name for one in expected if one.name in self.reached and one.name not in self.moved]
        if still:
            causes = ["a learning rate of 0", "an optimizer that is never stepped", "updates that are all skipped"]
            sentence = "parameters with gradients never move"
            evidence = {"parameters": len(still), "of": len(expected), "names": still}
            yield Diagnosis("never_moves", sentence, evidence, causes, "look at the rate and steps of their optimizer")

    def _idle(self, idle: list[Layer], total: int, step: int) -> Iterator[Diagnosis]:
        kinds = {
            "frozen_parameters": (
                [one.name for one in idle if not one.requires_grad],
                "parameters are frozen, and the config does not say so",
                ["requires_grad_(False) in the model", "weights that were loaded are left frozen"],
                "unfreeze them, or name them in optimizers.*.freeze",
            ),
            "parameters_not_optimized": (
                [one.name for one in idle if one.requires_grad and not one.trained],
                "parameters belong to no optimizer",
                ["parameter_groups() or the optimizer's list leaves them out", "they were made after the optimizer"],
                "give all parameters to an optimizer",
            ),
            "no_gradient": (
                [one.name for one in idle if one.requires_grad and one.trained],
                "no gradient reaches parameters",
                ["detach(), no_grad() or .data on the way", "forward does not use them", "a factor of 0"],
                "follow their output to the loss",
            ),
        }
        for name, (names, sentence, causes, advice) in kinds.items():
            if names:
                evidence = {"parameters": len(names), "of": total, "names": names, "steps": step}
                yield Diagnosis(name, sentence, evidence, causes, advice)


class LearningRate(Watcher):
    """Size of updates relative to the weights: ordinary are 1e-4 to 1e-1 for a step, at the schedule's peak.

    Only matrices count: biases begin at 0.
    """

    too_high, too_low = 0.15, 2e-4

    def __init__(self) -> None:
        self.high = InARow(2)
        self.largest = 0.0
        self.highest_lr: dict[str, float] = {}
        self.looks_at_peak = 0

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        ratio = update_ratio(seen.layers)
        if ratio is None:
            return
        lr = {name: one.lr for name, one in seen.optimizers.items()}
        if self.high(ratio > self.too_high):
            causes = ["the learning rate is too high", "an optimizer without warm-up", "weights that are next to 0"]
            sentence = f"an update changes the weights by {ratio:.0%} of their size, in every step"
            evidence = {"update / weight": ratio, "lr": list(lr.values())}
            yield Diagnosis("lr_too_high", sentence, evidence, causes, "try a tenth of the learning rate")
        rising = any(value > self.highest_lr.get(name, 0.0) for name, value in lr.items())
        self.highest_lr = {name: max(value, self.highest_lr.get(name, 0.0)) for name, value in lr.items()}
        self.largest = max(self.largest, ratio)
        self.looks_at_peak += not rising
        behind = self.looks_at_peak >= 4 and seen.step >= 40
        if behind and self.largest < self.too_low and self.largest > 0 and not seen.started_from:
            causes = ["the learning rate is too low", "the schedule lowers it too soon"]
            sentence = "updates are too small to change the weights"
            evidence = {"largest update / weight": self.largest, "lr": list(lr.values())}
            yield Diagnosis("lr_too_low", sentence, evidence, causes, "try ten or a hundred times the learning rate")


def update_ratio(layers: Sequence[Layer]) -> float | None:
    """Norm of the update of all matrices over the norm of their weights."""
    pairs = [(one.update, one.weight) for one in layers if one.is_matrix and one.trained and one.update is not None]
    weight = math.sqrt(sum(w * w for _, w in pairs))
    return math.sqrt(sum(u * u for u, _ in pairs)) / weight if weight > 0 else None


class Shrinking(Watcher):
    """Weights that a decay pulls to zero faster than gradients build them."""

    def __init__(self) -> None:
        self.largest = 0.0

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        weight = math.sqrt(sum(one.weight**2 for one in seen.layers if one.is_matrix and one.trained))
        self.largest = max(self.largest, weight)
        decay = max((one.weight_decay for one in seen.optimizers.values()), default=0.0)
        if weight and weight < 0.6 * self.largest and decay > 0:
            causes = [f"weight_decay {decay:g} is too large for this learning rate"]
            sentence = f"the weights shrink: they have {weight / self.largest:.0%} of their largest size"
            evidence = {"norm": weight, "largest norm": self.largest, "weight_decay": decay}
            yield Diagnosis("weights_shrink", sentence, evidence, causes, "set weight_decay to 0.01 or less")


class Gradients(Watcher):
    """Gradients by layer: vanished, exploded, left over from the update before, or clipped to nothing."""

    # A gradient, relative to its weight, that is so much smaller than the median of all has vanished.
    vanished = 1e-6
    exploded = 1e3
    clipped = 300.0

    def __init__(self) -> None:
        self.norms = {"": Recent(10)}
        self.vanishing, self.exploding, self.left = InARow(4), InARow(2), InARow(2)
        self.ratios: dict[str, Recent] = {}

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        if not seen.layers:
            return
        yield from self._vanished(seen)
        for name, one in seen.optimizers.items():
            norm = seen.values.get("grad_norm", seen.values.get(f"{name}/grad_norm", math.nan))
            yield from self._exploded(seen, name, norm)
            yield from self._clipped(name, norm, one.clip_norm)
        leftover = [name for name, one in seen.optimizers.items() if one.leftover > 0]
        if self.left(bool(leftover)):
            causes = ["zero_grad() is missing or is called elsewhere", "zero_grad() of another optimizer"]
            sentence = "gradients of earlier updates are still there when an update begins"
            evidence = {"optimizers": leftover, "norm": [seen.optimizers[name].leftover for name in leftover]}
            yield Diagnosis("gradients_not_zeroed", sentence, evidence, causes, "call zero_grad() before each update")

    def _vanished(self, seen: Seen) -> Iterator[Diagnosis]:
        sizes = {
            one.name: one.gradient / max(one.weight, 1e-12)
            for one in seen.layers
            if one.is_matrix and one.gradient and one.trained
        }
        if len(sizes) < 3:
            return
        median = statistics.median(sizes.values())
        small = [name for name, size in sizes.items() if size < self.vanished * median]
        if self.vanishing(bool(small)):
            causes = ["saturated units", "too many layers without residuals or normalization", "a tiny factor"]
            sentence = "gradients vanish on their way"
            evidence = {"layers": small, "size / median": [sizes[name] / median for name in small]}
            yield Diagnosis("gradients_vanish", sentence, evidence, causes, "normalize layers; look at their inputs")

    def _exploded(self, seen: Seen, name: str, norm: float) -> Iterator[Diagnosis]:
        median = self.norms.setdefault(name, Recent(10)).add(norm) if math.isfinite(norm) else None
        if self.exploding(median is not None and norm > self.exploded * max(median, 1e-3)):
            worst = max((one for one in seen.layers if one.gradient), key=lambda one: one.gradient or 0.0)
            causes = ["the learning rate is too high", "no clipping", "a recurrent layer that amplifies"]
            sentence = f"gradients explode, most of all in {worst.name}"
            evidence = {"norm": norm, "median before": median}
            yield Diagnosis("gradients_explode", sentence, evidence, causes, "set clip_norm; lower the learning rate")

    def _clipped(self, name: str, norm: float, clip: float | None) -> Iterator[Diagnosis]:
        if not clip or not math.isfinite(norm):
            return
        median = self.ratios.setdefault(name, Recent(5)).add(norm / clip)
        if median is not None and median > self.clipped:
            sentence = f"clipping leaves {1 / median:.2g} of the gradients of {name!r}"
            evidence = {"grad_norm": norm, "clip_norm": clip}
            causes = ["clip_norm is too small", "losses are sums where means are meant"]
            yield Diagnosis("clipped_to_nothing", sentence, evidence, causes, "set clip_norm near the usual grad_norm")


class DeadUnits(Watcher):
    """Units whose weights have a gradient of exactly zero in every look: rectifiers that never open."""

    def __init__(self) -> None:
        self.alive: dict[str, Tensor] = {}
        self.looks = 0

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        if not seen.gradients:
            return
        self.looks += 1
        for name, gradient in seen.gradients.items():
            open_now = gradient.flatten(1).abs().amax(1) > 0
            self.alive[name] = self.alive[name] | open_now if name in self.alive else open_now
        if self.looks < 10 or seen.step < 100:
            return
        names = list(self.alive)
        fractions = torch.stack([1 - alive.float().mean() for alive in self.alive.values()]).tolist()
        dead = {name: fraction for name, fraction in zip(names, fractions, strict=True) if 0.5 < fraction < 1.0}
        if dead:
            causes = ["a learning rate that was too high", "biases far below 0", "inputs that are all alike"]
            sentence = "most units of a layer never open"
            evidence = {"layers": list(dead), "fraction of dead units": list(dead.values())}
            yield Diagnosis("dead_units", sentence, evidence, causes, "lower the rate; another initialization")

"""Watchers of the run as a whole: losses, schedules, precision, processes, the loader."""

import math
from collections.abc import Iterator

from hw_base.watch.diagnosis import Diagnosis, InARow, Seen, Watcher


class Divergence(Watcher):
    """A loss that stays finite and grows; where several optimizers work against each other it means nothing."""

    follows = {"diverging": frozenset({"lr_too_high", "targets_do_not_fit"})}

    def __init__(self) -> None:
        self.best, self.first, self.best_step = math.inf, math.nan, 0
        self.growing = InARow(3)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        loss = seen.values.get("loss", math.nan)
        if len(seen.optimizers) > 1 or not math.isfinite(loss):
            return
        if math.isnan(self.first):
            self.first = loss
        if loss < self.best:
            self.best, self.best_step = loss, seen.step
        margin = 2.0 * max(abs(self.best), 0.1)
        if self.growing(loss > self.best + margin and loss > self.first + 0.1 * abs(self.first)):
            causes = ["the learning rate is too high", "gradients that are added up over updates", "a sign error"]
            sentence = "the loss grows: it is above the first one and far above the best"
            evidence = {"loss": loss, "first": self.first, "best": self.best, "at step": self.best_step}
            yield Diagnosis("diverging", sentence, evidence, causes, "lower the learning rate; set clip_norm")


class Overfitting(Watcher):
    """The validation loss rises while that of training still falls."""

    def __init__(self) -> None:
        self.train = math.nan
        self.best: dict[str, tuple[float, float, int]] = {}
        self.leaving: dict[str, InARow] = {}

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        train = self.train = seen.values.get("loss", self.train)
        if len(seen.optimizers) > 1:
            return
        for key, value in seen.evaluation.items():
            if not key.endswith("/loss") or not math.isfinite(value) or not math.isfinite(train):
                continue
            best, train_then, step = self.best.get(key, (math.inf, math.inf, 0))
            if value < best:
                self.best[key] = (value, train, seen.step)
            left = value > best + 0.3 * abs(best) and train < train_then
            if self.leaving.setdefault(key, InARow(3))(left):
                causes = [
                    "too little data for this model",
                    "no augmentation or dropout",
                    "validation is of another kind",
                ]
                sentence = f"{key} leaves that of training: it was best at step {step}"
                evidence = {key: value, "best": best, "train/loss": train, "train/loss then": train_then}
                advice = "stop earlier (trainer.early_stop), augment, or take a smaller model"
                yield Diagnosis("overfitting", sentence, evidence, causes, advice)


class Schedule(Watcher):
    """A learning rate that does not come near the configured one, or is gone long before the end."""

    def __init__(self) -> None:
        self.highest: dict[str, float] = {}
        self.first_step: int | None = None

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        if self.first_step is None:
            self.first_step = seen.step
        for name, one in seen.optimizers.items():
            highest = self.highest[name] = max(self.highest.get(name, 0.0), one.lr)
            if one.every is None or one.base_lr <= 0 or seen.step < 20:
                continue
            fraction = seen.step / max(seen.last_step, 1)
            evidence = {"lr": one.lr, "highest": highest, "configured": one.base_lr, "stepped every": one.every}
            advice = "look at optimizers.*.scheduler.every and at its lengths"
            # A run that is resumed late may have seen the configured rate before.
            saw_the_warmup = self.first_step < 0.3 * seen.last_step
            if fraction >= 0.3 and saw_the_warmup and highest < 0.2 * one.base_lr:
                causes = ["a warm-up in steps that is stepped once an epoch", "a warm-up longer than the run"]
                sentence = f"after {fraction:.0%} of the run the learning rate was never near the configured one"
                yield Diagnosis("schedule_too_slow", sentence, evidence, causes, advice)
            elif fraction <= 0.5 and one.lr < 1e-4 * highest:
                causes = ["a schedule in epochs that is stepped at every step", "a length that is too short"]
                sentence = f"after {fraction:.0%} of the run the learning rate is next to 0"
                yield Diagnosis("schedule_too_fast", sentence, evidence, causes, advice)


class LossScale(Watcher):
    """A loss scale of float16 that sinks: every update overflows."""

    def __init__(self) -> None:
        self.largest = 0.0

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        for name, one in seen.optimizers.items():
            if one.loss_scale is None:
                continue
            self.largest = max(self.largest, one.loss_scale)
            if one.loss_scale <= min(16.0, self.largest / 64):
                causes = ["values above 65504 in float16", "a loss that is a sum instead of a mean", "NaN gradients"]
                sentence = "the loss scale sinks: updates overflow in float16"
                evidence = {"optimizer": name, "scale": one.loss_scale, "largest": self.largest}
                yield Diagnosis("loss_scale_sinks", sentence, evidence, causes, "trainer.amp: bf16 or off")


class Starving(Watcher):
    """An accelerator that waits for the loader; a CPU that trains loads too, and nothing is lost there."""

    def __init__(self) -> None:
        self.waiting = InARow(5)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        fraction = seen.values.get("data_wait", 0.0)
        if self.waiting(fraction > 0.4 and seen.device != "cpu"):
            causes = ["too few workers", "slow storage", "costly augmentations", "audio that is resampled"]
            sentence = f"the device waits for data in {fraction:.0%} of the time"
            evidence = {"data_wait": fraction, "steps_per_second": seen.values.get("steps_per_second", math.nan)}
            yield Diagnosis("loader_starves", sentence, evidence, causes, "raise data.train.workers")


class Data(Watcher):
    """The same few utterances again and again, though there are more."""

    # Of a split that is drawn from at random, so many batches have far more different utterances.
    steps, fraction = 20, 0.2

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.given, self.taken = 0, 0

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        if seen.given is None or self.taken >= self.steps:
            return
        self.names |= seen.given.names
        self.given, self.taken = self.given + seen.given.count, self.taken + seen.given.steps
        if self.taken < self.steps:
            return
        different = self.given * min(1.0, seen.given.per_epoch / self.taken)  # of whole epochs
        if len(self.names) <= self.fraction * different:
            causes = ["an iterator that is made anew in every step: next(iter(loader))", "a sampler of few indices"]
            sentence = f"training sees the same {len(self.names)} utterances again and again"
            evidence = {
                "given": self.given,
                "steps": self.taken,
                "batches of an epoch": seen.given.per_epoch,
                "names": sorted(self.names),
            }
            yield Diagnosis("same_utterances", sentence, evidence, causes, "go through the whole loader in each epoch")


class Mode(Watcher):
    """Networks that are trained in evaluation mode: no dropout, and batch norm by statistics that stand still."""

    def __init__(self) -> None:
        self.evaluating = InARow(3)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        if seen.values and self.evaluating(bool(seen.evaluating)):
            causes = ["eval() without train() after it", "a method train() that ignores its argument"]
            evidence = {"networks": list(seen.evaluating)}
            sentence = "training runs in evaluation mode"
            yield Diagnosis("evaluation_mode", sentence, evidence, causes, "call model.train() before each step")


class OneLoss(Watcher):
    """A weighted sum in which one of several losses is nearly everything.

    Args:
        weights: of the losses, by name.
        group: name of their optimizer in the log where there are several.
    """

    def __init__(self, weights: dict[str, float], group: str = "") -> None:
        self.weights, self.group = weights, group
        self.alone = InARow(10)

    def look(self, seen: Seen) -> Iterator[Diagnosis]:
        prefix = f"{self.group}/" if self.group else ""
        magnitudes = {n: abs(w * seen.values[prefix + n]) for n, w in self.weights.items() if prefix + n in seen.values}
        total = sum(magnitudes.values())
        if len(magnitudes) < 2 or not math.isfinite(total) or total <= 0:
            return
        name = max(magnitudes, key=lambda key: magnitudes[key])
        if self.alone(magnitudes[name] > 0.999 * total):
            causes = [f"the weight of {name} is too large", "another loss is constant 0"]
            evidence = {key: value / total for key, value in magnitudes.items()}
            sentence = f"{name} is all of the loss"
            yield Diagnosis("one_loss_dominates", sentence, evidence, causes, "balance the weights in losses")

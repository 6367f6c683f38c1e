"""Which checkpoint is the best, and when training no longer gets better."""

import logging
import math
from typing import Any

log = logging.getLogger(__name__)


class Monitor:
    """Follows one value of the evaluations.

    Args:
        rule: ``min val/wer`` or ``max val/stoi``; None follows nothing.
        patience: evaluations without improvement after which `exhausted` is true.
        keep: how many of the best evaluations are remembered.

    Attributes:
        key: name of the value, or None.
        best: the best value so far whose checkpoint was written, or None.
        lost: value and step of a better one whose checkpoint could not be written, or None.
        ranking: value, signed so that less is better, and step of the `keep` best evaluations, best first.
    """

    def __init__(self, rule: str | None, patience: int | None = None, keep: int = 0) -> None:
        self.rule = rule
        mode, _, key = (rule or "").partition(" ")
        self.key: str | None = key or None
        self.sign = -1.0 if mode == "max" else 1.0
        self.patience, self.keep = patience, keep
        self.best: float | None = None
        self.best_step = 0
        self.stale = 0
        self.ranking: list[tuple[float, int]] = []
        self.lost: tuple[float, int] | None = None

    def update(self, value: float, step: int) -> bool:
        """Take an evaluation's value; whether it is the best so far (what is not finite never is)."""
        better = math.isfinite(value) and (self.best is None or self.sign * value < self.sign * self.best)
        if better:
            self.best, self.best_step, self.stale = value, step, 0
        else:
            self.stale += 1
        if math.isfinite(value):
            self.ranking = sorted([*self.ranking, (self.sign * value, step)])[: self.keep]
        return better

    def forget_best(self) -> None:
        """Restart the search for the best: its checkpoint is missing."""
        self.best, self.best_step = None, 0

    def undo(self, before: dict[str, Any], value: float, step: int) -> None:
        """Take back an `update` whose checkpoint could not be written, but for the improvement that it was.

        Args:
            before: `state_dict` before it.
            value: of the evaluation.
            step: likewise.
        """
        improved = self.best_step == step
        self.best, self.best_step, self.ranking = before["best"], before["best_step"], before["ranking"]
        if improved and (self.lost is None or self.sign * value < self.sign * self.lost[0]):
            self.lost = (value, step)

    @property
    def lost_best(self) -> tuple[float, int] | None:
        """Value and step of the best evaluation of all, if its checkpoint could not be written."""
        beaten = self.lost is None or (self.best is not None and self.sign * self.best <= self.sign * self.lost[0])
        return None if beaten else self.lost

    @property
    def best_steps(self) -> frozenset[int]:
        """Steps of the best evaluations that are remembered."""
        return frozenset(step for _, step in self.ranking)

    @property
    def exhausted(self) -> bool:
        """Whether there was no improvement for too long."""
        return self.patience is not None and self.stale >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Best values and how long ago the very best was."""
        values = {"best": self.best, "best_step": self.best_step, "stale": self.stale, "ranking": self.ranking}
        return {"rule": self.rule, **values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; the best by another rule says nothing about this one's."""
        if state.get("rule", self.rule) != self.rule:
            log.warning(
                "trainer.monitor is %s now, it was %s: the search for the best starts again", self.rule, state["rule"]
            )
            return
        self.best, self.best_step, self.stale = state["best"], state["best_step"], state["stale"]
        self.ranking = [(value, step) for value, step in state.get("ranking", [])]

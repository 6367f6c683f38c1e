"""Which checkpoint is the best, and when training no longer gets better."""

import math
from typing import Any


class Monitor:
    """Follows one value of the evaluations.

    Args:
        rule: ``min val/wer`` or ``max val/stoi``; None follows nothing.
        patience: evaluations without improvement after which `exhausted` is true.
        keep: how many of the best evaluations are remembered.

    Attributes:
        key: name of the value, or None.
        best: the best value so far, or None.
        ranking: value, signed so that less is better, and step of the `keep` best evaluations, best first.
    """

    def __init__(self, rule: str | None, patience: int | None = None, keep: int = 0) -> None:
        mode, _, key = (rule or "").partition(" ")
        self.key: str | None = key or None
        self.sign = -1.0 if mode == "max" else 1.0
        self.patience, self.keep = patience, keep
        self.best: float | None = None
        self.best_step = 0
        self.stale = 0
        self.ranking: list[tuple[float, int]] = []

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
        return {"best": self.best, "best_step": self.best_step, "stale": self.stale, "ranking": self.ranking}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.best, self.best_step, self.stale = state["best"], state["best_step"], state["stale"]
        self.ranking = [(value, step) for value, step in state.get("ranking", [])]

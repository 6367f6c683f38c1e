"""Watches updates: those that are not finite are named and counted, and too many, or a loss without bound, end the run.

This is the one place where the outcome of updates is looked at.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DivergedError

log = logging.getLogger(__name__)


_ADVICE = (
    "Training stops; the weights that are kept are the last ones with a finite and ordinary loss. Lower the learning "
    "rate, set optimizers.*.clip_norm, or look at these utterances"
)


@dataclass(frozen=True)
class _Update:
    step: int
    group: str
    taken: Tensor
    values: dict[str, Tensor]
    utterances: list[str]


# A loss that is so many times the first one, or so much where that was small, is no longer minimized.
UNBOUNDED = 1e4


class Guard:
    """Remembers the outcome of updates until it is read, so that a GPU need not be waited for at every step.

    Args:
        max_in_row: updates of one group in a row that may be skipped, or whose loss may be unbounded.

    Attributes:
        skipped: updates since the beginning.
        in_row: of each group, since its last one that was taken; the others' do not make up for them.
        large_in_row: likewise, with an unbounded loss.
        first: size of the first loss of each group.
        clean: whether all updates that were read last were taken with ordinary losses.
        bad: those of them that were skipped: step and values.
    """

    def __init__(self, max_in_row: int) -> None:
        self.max_in_row = max_in_row
        self.skipped = 0
        self.in_row: dict[str, int] = {}
        self.large_in_row: dict[str, int] = {}
        self.first: dict[str, float] = {}
        self.clean = False
        self.bad: list[tuple[int, dict[str, Tensor]]] = []
        self._pending: list[_Update] = []

    def record(self, step: int, group: str, taken: Tensor, values: dict[str, Tensor], utterances: list[str]) -> None:
        """Note one update.

        Args:
            step: of the batch.
            group: name of the optimization.
            taken (Tensor): bool scalar, whether the weights were updated.
            values: the losses, their sum ``loss`` and the gradient norm, scalars.
            utterances: of the batch.
        """
        self._pending.append(_Update(step, group, taken, values, utterances))

    def read(self) -> None:
        """Look at the updates since the last call.

        Raises:
            DivergedError: `max_in_row` of one group were skipped in a row, or had an unbounded loss.
        """
        pending, self._pending = self._pending, []
        self.clean, self.bad = bool(pending), []
        if not pending:
            return
        losses = torch.stack([u.values["loss"].float() for u in pending])
        taken = torch.stack([u.taken for u in pending]).to(losses.device)
        for update, (loss, good) in zip(pending, torch.stack([losses, taken.float()], 1).tolist(), strict=True):
            self._look_at_skip(update, bool(good))
            self._look_at_loss(update, loss)

    def _look_at_loss(self, update: _Update, loss: float) -> None:
        if not math.isfinite(loss):
            return
        first = self.first.setdefault(update.group, abs(loss))
        if abs(loss) <= UNBOUNDED * max(1.0, first):
            self.large_in_row[update.group] = 0
            return
        self.clean = False
        in_row = self.large_in_row[update.group] = self.large_in_row.get(update.group, 0) + 1
        if in_row >= self.max_in_row:
            raise DivergedError(
                f"step {update.step}: the loss of {update.group!r} grows without bound: {loss:.4g}, the first one was "
                f"{first:.4g} ({in_row} such updates in a row). {_ADVICE}"
            )

    def _look_at_skip(self, update: _Update, taken: bool) -> None:
        if taken:
            self.in_row[update.group] = 0
            return
        self.clean = False
        self.bad.append((update.step, update.values))
        self.skipped += 1
        in_row = self.in_row[update.group] = self.in_row.get(update.group, 0) + 1
        bad = [name for name, value in update.values.items() if not bool(torch.isfinite(value))]
        message = (
            f"step {update.step}: update of {update.group!r} skipped, not finite: {', '.join(bad)}; "
            f"utterances {', '.join(update.utterances[:8])}{' ...' if len(update.utterances) > 8 else ''} "
            f"({self.skipped} skipped so far, {in_row} in a row)"
        )
        log.warning("%s", message)
        if in_row >= self.max_in_row:
            raise DivergedError(f"{message}. {_ADVICE}")

    def start_anew(self) -> None:
        """Forget the rows of bad updates: other weights, or another learning rate, begin without them."""
        self.in_row, self.large_in_row = {}, {}

    @property
    def in_trouble(self) -> bool:
        """Whether the last update of some group was bad."""
        return any(self.in_row.values()) or any(self.large_in_row.values())

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        rows = {"in_row": dict(self.in_row), "large_in_row": dict(self.large_in_row)}
        return {"skipped": self.skipped, **rows, "first": dict(self.first)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the counts of `state_dict`."""
        self.skipped = state["skipped"]
        # Older checkpoints have one count for all groups, which says nothing about any of them.
        self.in_row = dict(state["in_row"]) if isinstance(state["in_row"], dict) else {}
        self.large_in_row, self.first = dict(state.get("large_in_row", {})), dict(state.get("first", {}))

"""Watches for updates whose loss or gradient is not finite: skips are named and counted, and too many end the run."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DivergedError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Update:
    step: int
    group: str
    taken: Tensor
    values: dict[str, Tensor]
    utterances: list[str]


class Guard:
    """Remembers the outcome of updates until it is read, so that a GPU need not be waited for at every step.

    Args:
        max_in_row: updates of one group in a row that may be skipped.

    Attributes:
        skipped: updates since the beginning.
        in_row: of each group, since its last one that was taken; the others' do not make up for them.
    """

    def __init__(self, max_in_row: int) -> None:
        self.max_in_row = max_in_row
        self.skipped = 0
        self.in_row: dict[str, int] = {}
        self._pending: list[_Update] = []

    def record(self, step: int, group: str, taken: Tensor, values: dict[str, Tensor], utterances: list[str]) -> None:
        """Note one update.

        Args:
            step: of the batch.
            group: name of the optimization.
            taken (Tensor): bool scalar, whether the weights were updated.
            values: the losses and the gradient norm, scalars.
            utterances: of the batch.
        """
        self._pending.append(_Update(step, group, taken, values, utterances))

    def read(self) -> None:
        """Look at the updates since the last call.

        Raises:
            DivergedError: `max_in_row` of one group were skipped in a row.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        for update, taken in zip(pending, torch.stack([u.taken for u in pending]).tolist(), strict=True):
            if taken:
                self.in_row[update.group] = 0
                continue
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
                raise DivergedError(
                    f"{message}. Training stops; the weights are those before. Lower the learning rate, set "
                    "optimizers.*.clip_norm, or look at these utterances"
                )

    def state_dict(self) -> dict[str, Any]:
        """The counts."""
        return {"skipped": self.skipped, "in_row": dict(self.in_row)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the counts of `state_dict`."""
        self.skipped = state["skipped"]
        # Older checkpoints have one count for all groups, which says nothing about any of them.
        self.in_row = dict(state["in_row"]) if isinstance(state["in_row"], dict) else {}

"""Means by name: of losses over the steps since they were last read, and of anything over whole splits."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hw_base import distributed
from hw_base.nn.losses import SumAndCount

# Values that a line of the log names.
_SHOWN = 12


class RunningMeans:
    """Running means by name; values that are not finite do not count."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Add one step's value, a scalar."""
        value = value.detach().float()
        good = torch.isfinite(value)
        value = torch.where(good, value, torch.zeros_like(value))
        if name in self._sums:
            self._sums[name] += value
            self._counts[name] += good
        else:
            self._sums[name], self._counts[name] = value.clone(), good.float()

    def read(self) -> dict[str, float]:
        """The means over steps and processes; resets them."""
        sums, self._sums = self._sums, {}
        counts, self._counts = self._counts, {}
        if not sums:
            return {}
        both = torch.stack([torch.stack(list(sums.values())), torch.stack(list(counts.values()))])
        totals, numbers = distributed.sum_over_processes(both).tolist()
        means = zip(sums, totals, numbers, strict=True)
        return {name: total / number if number else float("nan") for name, total, number in means}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        parts = {"sums": self._sums, "counts": self._counts}
        return {part: {name: value.cpu() for name, value in values.items()} for part, values in parts.items()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue a saved window."""
        self._sums = {k: v.to(device) for k, v in state["sums"].items()}
        self._counts = {k: v.to(device) for k, v in state["counts"].items()}


class SplitMeans:
    """Means by name, kept as sums and counts; processes need not have the same names."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, mean: SumAndCount) -> None:
        """Add one batch's part."""
        pair = torch.stack([mean.total.detach().double(), mean.count.detach().double().to(mean.total.device)])
        self._sums[name] = self._sums[name] + pair if name in self._sums else pair

    def read(self) -> dict[str, float]:
        """The means over everything added in all processes; resets them."""
        own, self._sums = self._sums, {}
        merged: dict[str, list[float]] = {}
        for part in distributed.gather({name: pair.tolist() for name, pair in own.items()}):
            for name, (total, count) in part.items():
                before = merged.get(name, [0.0, 0.0])
                merged[name] = [before[0] + total, before[1] + count]
        return {name: total / count if count else float("nan") for name, (total, count) in merged.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts."""
        return {name: pair.cpu() for name, pair in self._sums.items()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Continue from `state_dict`."""
        self._sums = {name: pair.to(device) for name, pair in state.items()}


def in_a_line(values: Mapping[str, float]) -> str:
    """Values for a line of the log: those of single speakers and more than fit are only counted."""
    whole = [name for name in values if name.count("/") < 2] or list(values)
    shown = [f"{name} {values[name]:.4f}" for name in whole[:_SHOWN]]
    others = len(values) - len(shown)
    return ", ".join(shown) + (f", and {others} more in metrics.jsonl" if others else "")

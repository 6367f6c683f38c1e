"""Exponential moving average of a model's weights."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


class EMA:
    """A second set of weights that follows the first: ``average <- d * average + (1 - d) * weights`` after each update.

    It averages out the noise of single updates, as the mean of Polyak and Juditsky (1992, "Acceleration of Stochastic
    Approximation by Averaging") does, and discards the beginning. Running statistics are averaged too. Early updates
    count more: ``d`` is at most ``(1 + n) / (10 + n)`` after ``n`` of them.

    Args:
        model: whose parameters and saved buffers are followed, from what they are now.
        decay: ``d``, between 0 and 1; ``1 / (1 - d)`` updates are remembered.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.n_updates = decay, 0
        saved = model.state_dict()
        statistics = [b for name, b in model.named_buffers() if name in saved and b.is_floating_point()]
        self.weights: list[Tensor] = [tensor.detach() for tensor in [*model.parameters(), *statistics]]
        self.averages: list[Tensor] = [tensor.clone() for tensor in self.weights]

    def update(self) -> None:
        """Take the weights as they are now into the average."""
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        torch._foreach_lerp_(self.averages, self.weights, 1 - decay)  # a few kernels for all of them

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Inside, the model's weights are the average."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for average, weight in zip(self.averages, self.weights, strict=True):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def restart(self, n_updates: int) -> None:
        """Continue from an average, which the model's weights hold now, after `n_updates`."""
        self.n_updates = n_updates
        for average, weight in zip(self.averages, self.weights, strict=True):
            average.copy_(weight)

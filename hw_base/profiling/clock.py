"""Time by stages, each without what lies inside it."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch


def wait_for(device: torch.device) -> None:
    """Return when the device has done what it was asked for; a CPU has already."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Clock:
    """Adds up the time of named stages; while an inner one runs, the outer one stands still.

    Args:
        device: a GPU is waited for at each change of stages, so that its work counts where it was asked for.

    Attributes:
        seconds (dict[str, float]): by stage, in the order in which they first began.
        stage (str): which runs now; empty outside of all.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}
        self._stack: list[str] = []
        self._since = 0.0

    @property
    def stage(self) -> str:
        return self._stack[-1] if self._stack else ""

    def enter(self, name: str) -> None:
        """Begin a stage within the current one."""
        self._add()
        self.seconds.setdefault(name, 0.0)
        self._stack.append(name)

    def leave(self) -> None:
        """End the current stage."""
        self._add()
        self._stack.pop()

    @contextlib.contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Inside, a stage runs."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave()

    @contextlib.contextmanager
    def around(self, owner: Any, method: str, name: str) -> Iterator[None]:
        """Inside, calls of one object's method are a stage."""
        original: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **keywords: Any) -> Any:
            with self.running(name):
                return original(*args, **keywords)

        setattr(owner, method, timed)
        try:
            yield
        finally:
            delattr(owner, method)

    def _add(self) -> None:
        wait_for(self.device)
        now = time.perf_counter()
        if self._stack:
            self.seconds[self._stack[-1]] += now - self._since
        self._since = now

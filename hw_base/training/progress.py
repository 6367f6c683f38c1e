"""A progress bar on a terminal; plain lines elsewhere."""

import contextlib
import datetime
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

from hw_base import distributed

log = logging.getLogger(__name__)


class Progress:
    """Counts steps and measures their rate.

    Args:
        done: steps behind us.
        total: steps in all.
    """

    def __init__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self._bar: Any = None
        self._since, self._counted = time.monotonic(), 0
        self._first, self._started = done, self._since
        self._waited = 0.0

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and distributed.is_main():
            from tqdm import tqdm

            self._bar = tqdm(initial=self.done, total=self.total, unit="step", dynamic_ncols=True)
        return self

    def __exit__(self, *unused: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def advance(self) -> None:
        """One step is done."""
        self.done += 1
        self._counted += 1
        if self._bar is not None:
            self._bar.update()

    def rate(self) -> float:
        """Steps per second since the last call."""
        now = time.monotonic()
        rate = self._counted / max(now - self._since, 1e-9)
        self._since, self._counted, self._waited = now, 0, 0.0
        return rate

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Surrounds waiting for a batch."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - started

    def data_wait(self) -> float:
        """Share of the time since the last `rate` in which a batch was waited for."""
        return min(1.0, self._waited / max(time.monotonic() - self._since, 1e-9))

    def restart_clock(self) -> None:
        """Leave the time since the last step out of the rate."""
        self._since, self._counted, self._waited = time.monotonic(), 0, 0.0

    def left(self) -> str:
        """Time left until the end, evaluations and saving included, ``0:02:05``; empty before the first step."""
        steps = self.done - self._first
        if not steps:
            return ""
        seconds = (self.total - self.done) * (time.monotonic() - self._started) / steps
        return str(datetime.timedelta(seconds=round(max(0.0, seconds))))

    def show(self, values: dict[str, float]) -> None:
        """Figures beside the bar, or a line in the log."""
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
            log.debug("step %d/%d: %s", self.done, self.total, text)
        else:
            log.info("step %d/%d: %s, %s left", self.done, self.total, text, self.left())

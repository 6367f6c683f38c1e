"""Signals end a run after the current step, with everything saved.

SIGINT and SIGTERM are those of people and schedulers, SIGHUP that of a terminal which is closed, SIGUSR1 that of a
scheduler so that the job is queued again (``sbatch --signal=USR1@120``). A second SIGINT or SIGTERM ends the run
at once. A limit of hours (``trainer.max_hours``) counts as SIGUSR1.
"""

import signal
import time
from types import FrameType
from typing import Any

_IMPATIENT = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_IMPATIENT, signal.SIGHUP, signal.SIGUSR1)


class Interrupts:
    """Inside the ``with`` block the first signal is only noted.

    Args:
        max_hours: from now on, after which `look` notes SIGUSR1.

    Attributes:
        received: number of the signal, or 0.
        reason: what ended the run, for messages.
    """

    def __init__(self, max_hours: float | None = None) -> None:
        self.received = 0
        self.reason = "interrupted"
        self._deadline = None if max_hours is None else time.monotonic() + 3600 * max_hours
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # as under `nohup`
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def look(self) -> int:
        """The number of the signal that came, also where the time is over; or 0."""
        if not self.received and self._deadline is not None and time.monotonic() >= self._deadline:
            self.received, self.reason = signal.SIGUSR1, "trainer.max_hours are over"
        return self.received

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        for again in _IMPATIENT:
            signal.signal(again, signal.SIG_DFL)

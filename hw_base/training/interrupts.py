"""Signals end a run after the current step, with everything saved.

SIGINT and SIGTERM are those of people and schedulers, SIGHUP that of a terminal which is closed, SIGUSR1 that of a
scheduler which wants the job to be queued again (``sbatch --signal=USR1@120``). A second SIGINT or SIGTERM ends the run
at once.
"""

import signal
from types import FrameType
from typing import Any

_IMPATIENT = (signal.SIGINT, signal.SIGTERM)
_SIGNALS = (*_IMPATIENT, signal.SIGHUP, signal.SIGUSR1)


class Interrupts:
    """Inside the ``with`` block the first signal is only noted.

    Attributes:
        received: number of the signal, or 0.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in _SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # as `nohup` wants it
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        for again in _IMPATIENT:
            signal.signal(again, signal.SIG_DFL)

"""Several writers as one, none of which can stop training."""

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.writers.base import Cell, Writer
from hw_base.writers.jsonl import JsonlWriter

log = logging.getLogger(__name__)


# Names of trackers with a thread that never ends: the interpreter would wait for it at exit.
HUNG: set[str] = set()


class _Line:
    """A thread of its own for one tracker, so that a call which never returns blocks nothing else."""

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            call, outcome = self._calls.get()
            try:
                outcome.set_result(call())
            except Exception as error:
                outcome.set_exception(error)
            except BaseException as error:  # a library that ends the program, or the thread, ends neither
                outcome.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))

    def do(self, call: Callable[[], None], seconds: float) -> bool:
        """Let the thread do something, and wait for it; whether it was done in time.

        Raises:
            Exception: what the call raised.
        """
        outcome: Future[None] = Future()
        self._calls.put((call, outcome))
        finished, _ = wait([outcome], timeout=seconds)
        if finished:
            outcome.result()
        return bool(finished)


class MultiWriter(Writer):
    """Gives everything to every writer.

    A writer that raises is reported once for each kind of error and left out after `patience` failures in a row; the
    others continue. One that does not answer in time is left out at once. The record is never left out: a full disk may
    have room again.

    Args:
        writers: in the order in which they are called; may be empty.
        patience: failures in a row after which a tracker is disabled.
        seconds: that a call to a tracker may take.
        close_seconds: that its end may take, when it sends what is left.
    """

    def __init__(
        self, writers: Sequence[Writer] = (), patience: int = 10, seconds: float = 60.0, close_seconds: float = 180.0
    ) -> None:
        self.patience, self.seconds, self.close_seconds = patience, seconds, close_seconds
        self._lines: dict[str, _Line] = {}
        self._hung: set[str] = set()
        self._states: dict[str, Any] = {}
        self._writers = _named(writers)
        self._failures = dict.fromkeys(self._writers, 0)
        self._reported: set[tuple[str, str, type[Exception]]] = set()
        self._held: list[tuple[str, Callable[[Writer], None]]] | None = None

    @property
    def active(self) -> list[str]:
        """Names of the writers that are not disabled."""
        return [name for name, writer in self._writers.items() if not self._given_up(name, writer)]

    def _given_up(self, name: str, writer: Writer) -> bool:
        return name in self._hung or (self._failures[name] >= self.patience and not isinstance(writer, JsonlWriter))

    def _call(self, name: str, what: str, call: Callable[[], None], seconds: float) -> None:
        """Call a writer; trackers in their own threads, because a stopped service answers never.

        Raises:
            Exception: what the writer raised.
        """
        if isinstance(self._writers[name], JsonlWriter):
            call()
            return
        if name not in self._lines:
            self._lines[name] = _Line(name)
        if not self._lines[name].do(call, seconds):
            self._hung.add(name)
            HUNG.add(name)
            log.error("%s: %s did not end within %.0f s; it is disabled, training continues", name, what, seconds)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is reported inside reaches the writers at the end, or not at all if an error ends it."""
        self._held = []
        try:
            yield
            reports = self._held
        finally:
            self._held = None
        for what, call in reports:
            self._tell(what, call)

    def _tell(self, what: str, call: Callable[[Writer], None]) -> None:
        if self._held is not None:
            self._held.append((what, call))
            return
        for name in self.active:
            try:
                self._call(name, what, partial(call, self._writers[name]), self.seconds)
            except Exception as error:
                self._failed(name, what, error)
            else:
                self._failures[name] = 0

    def _failed(self, name: str, what: str, error: Exception) -> None:
        self._failures[name] += 1
        kind = (name, what, type(error))
        if kind not in self._reported:
            self._reported.add(kind)
            log.error("%s: %s failed, training continues: %s: %s", name, what, type(error).__name__, error)
            log.debug("the failure of %s in full", name, exc_info=error)
        if self._failures[name] == self.patience and name not in self.active:
            log.error("%s failed %d times in a row and is disabled", name, self.patience)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """To every writer."""
        self._tell("scalars", lambda writer: writer.scalars(values, step))

    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int, caption: str = "") -> None:
        """To every writer."""
        self._tell("audio", lambda writer: writer.audio(name, waveform, sample_rate, step, caption))

    def image(self, name: str, image: NDArray[np.uint8], step: int, caption: str = "") -> None:
        """To every writer."""
        self._tell("image", lambda writer: writer.image(name, image, step, caption))

    def text(self, name: str, text: str, step: int) -> None:
        """To every writer."""
        self._tell("text", lambda writer: writer.text(name, text, step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """To every writer."""
        self._tell("table", lambda writer: writer.table(name, columns, rows, step))

    def state_dict(self) -> dict[str, Any]:
        """Writer's name -> its state; the last one that was known of a writer that does not say it."""
        for name, writer in self._writers.items():
            if name in self._hung:
                continue
            try:
                self._call(name, "state_dict", partial(self._remember, name, writer), self.seconds)
            except Exception as error:
                self._failed(name, "state_dict", error)
        return dict(self._states)

    def _remember(self, name: str, writer: Writer) -> None:
        self._states[name] = writer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """To every writer its own; one that is new in the config starts a new experiment."""
        self._states = {name: dict(state[name]) for name in self._writers if name in state}
        for name in self.active:
            try:
                restore = partial(self._writers[name].load_state_dict, state.get(name, {}), step)
                self._call(name, "load_state_dict", restore, self.seconds)
            except Exception as error:
                self._failed(name, "load_state_dict", error)

    def close(self) -> None:
        """To every writer, the ones that were given up too."""
        for name, writer in self._writers.items():
            if name in self._hung:
                continue
            try:
                self._call(name, "close", writer.close, self.close_seconds)
            except Exception as error:
                self._failed(name, "close", error)


def _named(writers: Sequence[Writer]) -> dict[str, Writer]:
    """Two writers of one class get different names, the same ones in every run of one config."""
    named: dict[str, Writer] = {}
    for writer in writers:
        same = sum(type(other) is type(writer) for other in named.values())
        named[writer.name if not same else f"{writer.name} {same + 1}"] = writer
    return named

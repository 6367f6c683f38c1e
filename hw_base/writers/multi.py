"""Several writers as one, none of which can stop training."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.writers.base import Cell, Writer
from hw_base.writers.jsonl import JsonlWriter

log = logging.getLogger(__name__)


class MultiWriter(Writer):
    """Gives everything to every writer.

    A writer that raises is reported once for each kind of error and left out after `patience` failures in a row; the
    others go on. The record is never left out: a full disk may have room again.

    Args:
        writers: in the order in which they are told; none at all is fine.
        patience: failures in a row after which a tracker is no longer told anything.
    """

    def __init__(self, writers: Sequence[Writer] = (), patience: int = 10) -> None:
        self.patience = patience
        self._writers = _named(writers)
        self._failures = dict.fromkeys(self._writers, 0)
        self._reported: set[tuple[str, str, type[Exception]]] = set()
        self._held: list[tuple[str, Callable[[Writer], None]]] | None = None

    @property
    def active(self) -> list[str]:
        """Names of the writers that are still told everything."""
        return [name for name, writer in self._writers.items() if not self._given_up(name, writer)]

    def _given_up(self, name: str, writer: Writer) -> bool:
        return self._failures[name] >= self.patience and not isinstance(writer, JsonlWriter)

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
                call(self._writers[name])
            except Exception as error:
                self._failed(name, what, error)
            else:
                self._failures[name] = 0

    def _failed(self, name: str, what: str, error: Exception) -> None:
        self._failures[name] += 1
        kind = (name, what, type(error))
        if kind not in self._reported:
            self._reported.add(kind)
            log.error("%s: %s failed, training goes on: %s: %s", name, what, type(error).__name__, error)
            log.debug("the failure of %s in full", name, exc_info=error)
        if self._failures[name] == self.patience and name not in self.active:
            log.error("%s failed %d times in a row and gets nothing more", name, self.patience)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """To every writer."""
        self._tell("scalars", lambda writer: writer.scalars(values, step))

    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int) -> None:
        """To every writer."""
        self._tell("audio", lambda writer: writer.audio(name, waveform, sample_rate, step))

    def image(self, name: str, image: NDArray[np.uint8], step: int) -> None:
        """To every writer."""
        self._tell("image", lambda writer: writer.image(name, image, step))

    def text(self, name: str, text: str, step: int) -> None:
        """To every writer."""
        self._tell("text", lambda writer: writer.text(name, text, step))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """To every writer."""
        self._tell("table", lambda writer: writer.table(name, columns, rows, step))

    def state_dict(self) -> dict[str, Any]:
        """Writer's name -> its state."""
        states: dict[str, Any] = {}
        for name, writer in self._writers.items():
            try:
                states[name] = writer.state_dict()
            except Exception as error:
                self._failed(name, "state_dict", error)
        return states

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """To every writer its own; one that is new in the config starts a new experiment."""
        for name in self.active:
            try:
                self._writers[name].load_state_dict(state.get(name, {}), step)
            except Exception as error:
                self._failed(name, "load_state_dict", error)

    def close(self) -> None:
        """To every writer, the ones that were given up too."""
        for name, writer in self._writers.items():
            try:
                writer.close()
            except Exception as error:
                self._failed(name, "close", error)


def _named(writers: Sequence[Writer]) -> dict[str, Writer]:
    """Two writers of one class get different names, the same ones in every run of one config."""
    named: dict[str, Writer] = {}
    for writer in writers:
        same = sum(type(other) is type(writer) for other in named.values())
        named[writer.name if not same else f"{writer.name} {same + 1}"] = writer
    return named

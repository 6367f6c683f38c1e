"""A `Speaker` to keep: started when it is first asked, started anew where it was forked or pickled to, and ended."""

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hw_base.errors import DataError
from hw_base.synthetic.espeak import Speaker, Speech, Utterance

Answer = TypeVar("Answer")


class LazySpeaker:
    """A speaking process of this process's own, from the first question on.

    It may be copied, pickled and inherited by a fork: each copy starts a speaking process of its own. Threads
    take turns. The process ends with `close`, with the object, or with the program; a later question starts another.
    """

    _speaker: Speaker | None
    _finalizer: Callable[[], object] | None

    def __init__(self) -> None:
        self._forget()

    def say(self, utterance: Utterance) -> Speech:
        """As `Speaker.say`."""
        with self._turn():
            return self._ask(lambda speaker: speaker.say(utterance))

    def ipa(self, texts: Sequence[str], voice: str) -> list[str]:
        """As `Speaker.ipa`."""
        with self._turn():
            return self._ask(lambda speaker: speaker.ipa(texts, voice))

    @property
    def speaking(self) -> bool:
        """Whether there is a speaking process of this process's own."""
        return self._owner == os.getpid() and self._speaker is not None

    def close(self) -> None:
        """End the speaking process, if there is one; closing twice is fine."""
        with self._turn():
            self._end()

    def _turn(self) -> threading.Lock:
        # A lock that another thread held at the fork would never be free again in the child.
        if self._owner != os.getpid():
            self._forget()
        return self._lock

    def _ask(self, question: Callable[[Speaker], Answer]) -> Answer:
        if self._speaker is None:
            self._speaker = Speaker()
            _ALIVE.add(self._speaker)
            self._finalizer = weakref.finalize(self, _close, self._speaker, self._owner)
        try:
            return question(self._speaker)
        except DataError:
            if not self._speaker.alive:
                self._end()
            raise

    def _end(self) -> None:
        if self._finalizer is not None:
            self._finalizer()
        self._speaker = self._finalizer = None

    def _forget(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._speaker = self._finalizer = None

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._forget()


_ALIVE: "weakref.WeakSet[Speaker]" = weakref.WeakSet()


def _close(speaker: Speaker, owner: int) -> None:
    if owner == os.getpid():
        speaker.close()


def _let_go() -> None:
    """In a forked child: a copy of the pipes would keep the parent's speaking processes from seeing their end."""
    for speaker in list(_ALIVE):
        speaker.abandon()
    _ALIVE.clear()


os.register_at_fork(after_in_child=_let_go)

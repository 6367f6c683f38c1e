"""Work in a forked child, which starts within milliseconds because everything is imported already.

The parent must not have computed gradients before: the threads that do it do not survive a fork.
"""

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: its exit code; ``-N`` where signal N ended it.
        value: what the work returned.
        said: what it printed.
    """

    code: int
    value: Any
    said: str


class Child:
    """A child at work, in a process group of its own.

    Args:
        work: what it does; its result must be JSON.
        log: where what it prints goes.
    """

    def __init__(self, work: Callable[[], Any], log: Path) -> None:
        self.log = log
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_child(work, log, self._read, write)
        os.close(write)

    def send(self, number: int, whole_group: bool = False) -> None:
        """Send a signal."""
        os.killpg(self.pid, number) if whole_group else os.kill(self.pid, number)

    def end(self, seconds: float = 120.0) -> Ended:
        """Wait for the end.

        Raises:
            TimeoutError: it does not end in time; it is killed.
        """
        deadline, content = time.monotonic() + seconds, b""
        while True:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                self.send(signal.SIGKILL, whole_group=True)
                os.waitpid(self.pid, 0)
                os.close(self._read)
                raise TimeoutError(f"no end within {seconds:.0f} s: {self.said()[-500:]}")
            block = os.read(self._read, 1 << 16)
            if not block:
                break
            content += block
        os.close(self._read)
        _, status = os.waitpid(self.pid, 0)
        value = json.loads(content) if content else None
        return Ended(os.waitstatus_to_exitcode(status), value, self.said())

    def said(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""


def in_child(work: Callable[[], Any], folder: Path, seconds: float = 120.0) -> Ended:
    """Let a child do the work and wait for its end; what it prints is kept in the folder meanwhile."""
    return Child(work, folder / "said.txt").end(seconds)


def _be_child(work: Callable[[], Any], log: Path, read: int, write: int) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        os.close(read)
        # Nobody else may hold the pipe: the parent waits for its end.
        os.set_inheritable(write, False)
        os.register_at_fork(after_in_child=lambda: os.close(write))
        target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(target, descriptor)
        sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)
        value = work()
        os.write(write, json.dumps(value).encode())
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        # Exit here whatever was raised: the child must not return into the parent's code.
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

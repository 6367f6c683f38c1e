"""Looking after a running command from outside: its time, memory, processes and output."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from hw_base.grading.limits import Limits
from hw_base.grading.pid1 import HEAD

_PERIOD = 0.05
# Of each stream, the first and the last so many bytes are kept.
_KEPT = 16 << 10
# Headers and padding of the tar that the output comes in.
_TAR_MARGIN = 8 << 20
# The machine itself must not run out, whatever the processes hide their memory in.
_SPARED = 256 << 20
_NEVER_STARTED = 127
_NO_SPACE = ("No space left on device", "File too large")
_NO_MEMORY = ("MemoryError", "an't allocate memory", "annot allocate memory", "std::bad_alloc", "out of memory")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Outcome:
    """How a command ended.

    Attributes:
        exit_code: its own; negative for a signal; None where it was stopped.
        stopped: the limit that it hit: ``time``, ``memory``, ``disk``, ``processes`` or ``printed``; None without.
        seconds: by the clock, with start and copying.
        peak_memory: largest resident size of all its processes together, in bytes.
        peak_processes: processes and threads.
        stdout, stderr: beginning and end of what it printed.
        printed: bytes of both together.
        control_group: whether the kernel kept the limits of memory and processes for all processes together.
    """

    exit_code: int | None = None
    stopped: str | None = None
    seconds: float = 0.0
    peak_memory: int = 0
    peak_processes: int = 0
    stdout: str = ""
    stderr: str = ""
    printed: int = 0
    control_group: bool = False


class _Usage(NamedTuple):
    memory: int
    tasks: int


@dataclass
class _Stream:
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    size: int = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        free = _KEPT - len(self.head)
        self.head += data[: max(0, free)]
        self.tail = (self.tail + data[max(0, free) :])[-_KEPT:]

    def text(self) -> str:
        left_out = self.size - len(self.head) - len(self.tail)
        middle = f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b""
        return (bytes(self.head) + middle + bytes(self.tail)).decode("utf-8", "replace")


def watch(process: "subprocess.Popen[bytes]", reader: int, limits: Limits, target: Path) -> Outcome:
    """See a process through to its end; afterwards nothing of it is left in its process namespace.

    Args:
        process: of bubblewrap, or of `pid1` itself.
        reader: what `pid1` sends: `HEAD` bytes of JSON, then a tar.
        limits: the first one that is hit ends it.
        target: gets the tar.
    """
    started = time.monotonic()
    try:
        with open(target, "wb") as file:
            outcome = _Watch(process, reader, limits, file).run()
    finally:
        _end(process)
    outcome.seconds = time.monotonic() - started
    return outcome


class _Watch:
    """One process and its three streams."""

    def __init__(self, process: "subprocess.Popen[bytes]", reader: int, limits: Limits, file: IO[bytes]) -> None:
        self.process, self.limits, self.file = process, limits, file
        self.outcome, self.head, self.n_bytes = Outcome(), b"", 0
        self.streams = {"stdout": _Stream(), "stderr": _Stream()}
        self.selector = selectors.DefaultSelector()
        assert process.stdout is not None
        assert process.stderr is not None
        for name, stream in (("stdout", process.stdout.fileno()), ("stderr", process.stderr.fileno())):
            self.selector.register(stream, selectors.EVENT_READ, name)
        self.channel = reader
        self.selector.register(reader, selectors.EVENT_READ, "channel")

    def run(self) -> Outcome:
        """Until `pid1` closes its end, by when everybody else inside is dead."""
        outcome, started, next_look = self.outcome, time.monotonic(), 0.0
        with self.selector:
            while outcome.stopped is None and self.channel in self.selector.get_map():
                self._read(_PERIOD)
                if time.monotonic() >= next_look:
                    outcome.stopped = self._look(time.monotonic() - started)
                    next_look = time.monotonic() + _PERIOD
            while outcome.stopped is None and self._read(0.0):
                pass
        self._finish()
        return outcome

    def _read(self, timeout: float) -> bool:
        ready = self.selector.select(timeout)
        for key, _ in ready:
            data = os.read(key.fd, 1 << 16)
            if not data:
                self.selector.unregister(key.fd)
            elif key.data == "channel":
                missing = max(0, HEAD - len(self.head))
                self.head += data[:missing]
                self.file.write(data[missing:])
                self.n_bytes += len(data)
            else:
                self.streams[key.data].add(data)
                self.outcome.printed += len(data)
        if self.outcome.printed > self.limits.printed:
            self.outcome.stopped = "printed"
        elif self.n_bytes > self.limits.disk + _TAR_MARGIN:
            self.outcome.stopped = "disk"
        return bool(ready)

    def _look(self, seconds: float) -> str | None:
        outcome, usage = self.outcome, _usage(self.process.pid)
        outcome.peak_memory = max(outcome.peak_memory, usage.memory)
        outcome.peak_processes = max(outcome.peak_processes, usage.tasks)
        if seconds > self.limits.time:
            return "time"
        if usage.memory > self.limits.memory or _available() < _SPARED:
            return "memory"
        # The two processes that hold the sandbox do not count.
        return outcome.stopped or ("processes" if usage.tasks - 2 >= self.limits.processes else None)

    def _finish(self) -> None:
        outcome = self.outcome
        outcome.stdout, outcome.stderr = self.streams["stdout"].text(), self.streams["stderr"].text()
        if outcome.stopped is not None:
            return
        try:
            head = json.loads(self.head)
            outcome.exit_code = int(head["status"])
            outcome.peak_memory = max(outcome.peak_memory, int(head["largest"]))
        except (ValueError, KeyError, TypeError):  # the sandbox did not start, or its first process was killed
            outcome.exit_code = _NEVER_STARTED
            return
        refused = outcome.exit_code != 0 and any(sign in outcome.stderr for sign in _NO_SPACE)
        if head["full"] or refused or outcome.exit_code == -signal.SIGXFSZ:
            outcome.stopped = "disk"
        elif outcome.exit_code and any(sign in outcome.stderr for sign in _NO_MEMORY):
            outcome.stopped = "memory"


class _Process(NamedTuple):
    parent: int
    memory: int
    tasks: int


def _processes() -> dict[int, _Process]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # it has just ended
                continue
            found[int(name)] = _Process(int(fields[1]), int(fields[21]) * _PAGE, int(fields[17]))
    return found


def _tree(root: int, processes: dict[int, _Process]) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _usage(root: int) -> _Usage:
    processes = _processes()
    tree = [processes[pid] for pid in _tree(root, processes) if pid in processes]
    return _Usage(sum(process.memory for process in tree), sum(process.tasks for process in tree))


def _available() -> int:
    with open("/proc/meminfo", "rb") as file:
        for line in file:
            if line.startswith(b"MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _SPARED


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill what is still there; with bubblewrap the first process of its namespace takes all others along."""
    for pid in _tree(process.pid, _processes()) if process.poll() is None else []:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()

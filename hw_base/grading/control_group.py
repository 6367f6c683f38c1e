"""Limits that the kernel keeps for all processes of a sandbox together, where a control group (version 2) is ours."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hw_base.grading.limits import Limits

_MOUNT = Path("/sys/fs/cgroup")
_NEEDED = {"memory", "pids"}
# Starts a command inside a group: the shell joins it, then becomes the command.
_JOIN = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
# The two processes that hold the sandbox.
_HOLDERS = 2


class ControlGroup:
    """One group, for one run.

    Args:
        folder: of the group.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, command: list[str]) -> list[str]:
        """The command as one that runs in the group."""
        return ["/bin/sh", "-c", _JOIN, str(self.folder), *command]

    def hit(self) -> str | None:
        """The limit that the kernel has enforced, if any."""
        for limit, file, event in (("memory", "memory.events", "oom_kill"), ("processes", "pids.events", "max")):
            with contextlib.suppress(OSError, ValueError):
                lines = dict(line.split() for line in (self.folder / file).read_text().splitlines())
                if int(lines.get(event, 0)):
                    return limit
        return None

    def peak_memory(self) -> int:
        """Bytes, files in memory included; 0 where the kernel does not tell."""
        with contextlib.suppress(OSError, ValueError):
            return int((self.folder / "memory.peak").read_text())
        return 0


@contextlib.contextmanager
def control_group(limits: Limits, mount: Path = _MOUNT) -> Iterator[ControlGroup | None]:
    """A group with the limits; None where no group may be made, as without delegation.

    ``systemd-run --user --scope -p Delegate=yes python -m hw_base.grade ...`` gives an ordinary user one.
    """
    parent = parent_group(mount)
    folder = None if parent is None else parent / f"sandbox-{os.getpid()}"
    try:
        group = None if folder is None else _make(folder, limits)
    except OSError:
        group = None
    try:
        yield group
    finally:
        if folder is not None:
            with contextlib.suppress(OSError):
                (folder / "cgroup.kill").write_text("1")
            with contextlib.suppress(OSError):
                folder.rmdir()


def _make(folder: Path, limits: Limits) -> ControlGroup:
    folder.mkdir()
    # Files in memory, as in the work folder, count here too.
    (folder / "memory.max").write_text(str(limits.memory + limits.disk))
    (folder / "memory.swap.max").write_text("0")
    (folder / "pids.max").write_text(str(limits.processes + _HOLDERS))
    return ControlGroup(folder)


def parent_group(mount: Path = _MOUNT) -> Path | None:
    """The group that this process was in, with both controllers on for the groups below it.

    A group with processes cannot have them on, so this process moves to a group below.
    """
    try:
        own = next(line[3:].strip() for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::")
        parent = mount / own.lstrip("/")
        if parent.name == "grader":
            return parent.parent
        if not set((parent / "cgroup.controllers").read_text().split()) >= _NEEDED:
            return None
        (parent / "grader").mkdir(exist_ok=True)
        (parent / "grader" / "cgroup.procs").write_text(str(os.getpid()))
        (parent / "cgroup.subtree_control").write_text("+memory +pids")
    except (OSError, StopIteration):
        return None
    return parent

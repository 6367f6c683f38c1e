"""How much room on the disk and in memory a run needs, and whether it is there."""

import logging
import shutil
from pathlib import Path
from typing import Any

import torch

from hw_base.errors import CheckpointError

log = logging.getLogger(__name__)


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{max(1, round(size / 2**20))} MiB"


def free_memory() -> int:
    """Bytes that programs may still take, within the limit of a container too; 0 where that is not known."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    free = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")), 0)
    group = Path("/sys/fs/cgroup")
    try:
        limit, used, facts = (
            (group / f"memory.{name}").read_text(encoding="ascii").strip() for name in ("max", "current", "stat")
        )
    except OSError:
        return free
    if not limit.isdigit():
        return free
    # Of what a container uses, files that were read are given up when programs ask for memory.
    files = next((int(line.split()[1]) for line in facts.splitlines() if line.startswith("inactive_file ")), 0)
    return min(free, max(0, int(limit) - int(used) + files))


def free_on_disk(folder: Path) -> int:
    """Bytes that are free where a folder lies or will lie."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def said(folder: Path, like: Path) -> str:
    """What a copy of a file needs and what is free, for messages; empty where that is unknown."""
    try:
        return f" ({mib(like.stat().st_size)} are needed, {mib(shutil.disk_usage(folder).free)} are free there)"
    except OSError:
        return ""


def size_of(state: Any) -> int:
    """About how many bytes a state takes on the disk; a storage that several tensors share counts once."""
    found: dict[int, int] = {}
    waiting = [state]
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            found[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple):
            waiting += value
    return sum(found.values())


def check(folder: Path, one: int, count: int, there: int = 0) -> None:
    """Check that a run's checkpoints will fit.

    Args:
        folder: of the run.
        one: bytes of a checkpoint.
        count: how many there will be at most.
        there: bytes of those that are there already and will be replaced.

    Raises:
        CheckpointError: there is not even room for one and its successor; less than what all need is a warning.
    """
    free = shutil.disk_usage(folder).free + there
    needed = f"{count} checkpoints of {mib(one)} need {mib(count * one)}, {mib(free)} are free"
    if free < 2 * one:
        raise CheckpointError(f"{folder}: the disk is too full to train: {needed}; choose another --run-dir")
    if free < count * one:
        log.warning("%s: the disk may become full: %s; make room, or lower trainer.keep", folder, needed)

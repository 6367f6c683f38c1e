"""The folder of one run: made or found, never emptied, written to by one process at a time."""

import contextlib
import logging
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint
from hw_base.errors import CheckpointError, ConfigError
from hw_base.files import sources
from hw_base.storage import lock, write_json
from hw_base.writers.base import without_home

log = logging.getLogger(__name__)

AUTO = "auto"


def choose(run_dir: str | None, name: str, root: str = "saved") -> Path:
    """Where a new run goes: the folder asked for, or ``saved/<name>/<time>``."""
    if run_dir is not None:
        return Path(run_dir)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = Path(root) / name / stamp
    number = 1
    while folder.exists():
        number += 1
        folder = Path(root) / name / f"{stamp}-{number}"
    return folder


def newest_run(name: str, root: str = "saved") -> Path | None:
    """The run of an experiment whose newest checkpoint was written last; folders may have any names."""
    runs = [path for path in (Path(root) / name).glob("*") if path.is_dir() and checkpoint.numbered(path)]
    return max(runs, key=lambda run: max(path.stat().st_mtime for path in checkpoint.numbered(run)), default=None)


def find_checkpoint(resume: str, run_dir: str | None, name: str | None) -> Path | None:
    """The checkpoint to resume from.

    Args:
        resume: a path, an address, or ``auto``: the newest good one in `run_dir`, else of the newest run called `name`.

    Returns:
        None if ``auto`` finds nothing to continue.
    """
    if resume != AUTO:
        path = sources.local(resume)
        if path.is_dir():
            found = checkpoint.newest_good(path)
            if found is None:
                raise CheckpointError(f"{path}: this folder holds no checkpoint that can be read")
            return found
        return path
    folder = Path(run_dir) if run_dir is not None else newest_run(name or "")
    if folder is None or not folder.is_dir():
        return None
    found = checkpoint.newest_good(folder)
    if found is None and checkpoint.numbered(folder):
        raise CheckpointError(f"{folder}: none of its checkpoints can be read; choose another --run-dir")
    return found


def refuse_rewinding(source: Path, path: Path) -> None:
    """Refuse to continue a run from an older checkpoint in its own folder, which would undo what came later.

    Args:
        source: the checkpoint that was asked for.
        path: the run folder.

    Raises:
        CheckpointError: the folder has a newer good one.
    """
    if source.resolve().parent != path.resolve():
        return
    newest = checkpoint.newest_good(path)
    if newest is None or newest == source:
        return
    step = checkpoint.load(source, needs=("step",))["step"]
    if checkpoint.step_of(newest) > step:
        raise CheckpointError(
            f"{source}: is of step {step}, and training there would undo what {newest.name} holds; add --run-dir DIR "
            f"to branch off into another folder, or resume with -r {path}"
        )


_locks: set[int] = set()


def _close_locks() -> None:
    """A child that outlives its killed parent, such as a worker of the data loader, must not keep the parent's lock."""
    for descriptor in _locks:
        with contextlib.suppress(OSError):
            os.close(descriptor)


os.register_at_fork(after_in_child=_close_locks)


def best_checkpoint(path: str | Path) -> Path:
    """The checkpoint to evaluate: the file itself, or of a run folder the best one, else the newest that can be read.

    Args:
        path: of either, of a published folder, or an address, see `hw_base.files.sources`.

    Raises:
        CheckpointError: a folder without a checkpoint that can be read.
    """
    path = sources.local(path)
    if not path.is_dir():
        return path
    best = path / checkpoint.BEST
    found = best if best.exists() else checkpoint.newest_good(path)
    if found is None:
        raise CheckpointError(f"{path}: this folder holds no checkpoint that can be read")
    log.info("checkpoint: %s", found)
    return found


class RunFolder:
    """Opens a run's folder and keeps other processes out of it until `close`.

    Args:
        path: the folder; made where it is missing.
        resuming: whether a run may continue there; otherwise the folder may not hold one.

    Attributes:
        holds_run: whether it did before this one.

    Raises:
        ConfigError: it holds a run already, another process writes to it, or it cannot be made.
    """

    def __init__(self, path: Path, resuming: bool) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = open(path / ".lock", "a")  # noqa: SIM115 - held open for the whole run
        except OSError as error:
            raise ConfigError(f"--run-dir {path}: cannot be written to: {error.strerror}") from None
        _locks.add(self._lock.fileno())
        if lock(self._lock, f"--run-dir {path}", wait=False) == "busy":
            self.close()
            raise ConfigError(f"--run-dir {path}: another process is training in this folder")
        self.holds_run = (path / "metrics.jsonl").exists() or bool(checkpoint.numbered(path))
        if self.holds_run and not resuming:
            self.close()
            raise ConfigError(
                f"--run-dir {path}: holds a run already; add -r auto to continue it, or choose another folder"
            )
        checkpoint.sweep(path)

    def describe(self, config: dict[str, Any], device: torch.device) -> None:
        """Write ``config.json``, ``machine.json`` (how and where the run began) and the git commit, if there is one."""
        write_json(self.path / "config.json", config, option="--run-dir")
        if not (self.path / "machine.json").exists():  # a resumed run keeps what it began with
            write_json(self.path / "machine.json", _machine(device), option="--run-dir")
        commit = git_commit()
        if commit:
            with contextlib.suppress(OSError):  # the disk is full, which the first checkpoint will say
                (self.path / "git_commit.txt").write_text(commit + "\n", encoding="utf-8")

    def close(self) -> None:
        """Release the lock."""
        if not self._lock.closed:
            _locks.discard(self._lock.fileno())
            with contextlib.suppress(OSError):
                self._lock.close()


def _machine(device: torch.device) -> dict[str, Any]:
    """What a report says of hardware, versions and the command; no names of hosts or users."""
    found: dict[str, Any] = {
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "command": without_home(sys.argv) if Path(sys.argv[0]).name == "train.py" else None,
    }
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        found["cpu"] = names[0] if names else found["cpu"]
    return found


def git_commit() -> str | None:
    """The commit of the code, with a note where files were changed since; None without git or a repository."""
    here = Path(__file__).resolve().parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], cwd=here, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() + (" (with changes)" if changed.stdout.strip() else "")

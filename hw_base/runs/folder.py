"""The folder of one run: made or found, never emptied, written to by one process at a time."""

import contextlib
import fcntl
import json
import logging
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from hw_base import checkpoint
from hw_base.errors import CheckpointError, ConfigError

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
    """The newest run of an experiment that has a checkpoint."""
    runs = sorted((path for path in (Path(root) / name).glob("*") if path.is_dir()), reverse=True)
    return next((run for run in runs if checkpoint.numbered(run)), None)


def find_checkpoint(resume: str, run_dir: str | None, name: str | None) -> Path | None:
    """The checkpoint to resume from.

    Args:
        resume: a path, or ``auto``: the newest good one in `run_dir`, else of the newest run called `name`.

    Returns:
        None if ``auto`` finds nothing to continue.
    """
    if resume != AUTO:
        path = Path(resume)
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


class RunFolder:
    """Opens a run's folder and keeps other processes out of it until `close`.

    Args:
        path: the folder; made where it is missing.
        resuming: whether a run goes on there; otherwise the folder may not hold one.

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
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(f"--run-dir {path}: another process is training in this folder") from None
        holds_run = (path / "metrics.jsonl").exists() or checkpoint.numbered(path)
        if holds_run and not resuming:
            self.close()
            raise ConfigError(
                f"--run-dir {path}: holds a run already; add -r auto to continue it, or choose another folder"
            )
        checkpoint.sweep(path)

    def describe(self, config: dict[str, Any]) -> None:
        """Write ``config.json`` and, where there is one, the git commit."""
        scratch = self.path / "config.json.tmp"
        scratch.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        os.replace(scratch, self.path / "config.json")
        commit = _git_commit()
        if commit:
            (self.path / "git_commit.txt").write_text(commit + "\n", encoding="utf-8")

    def close(self) -> None:
        """Let others in."""
        with contextlib.suppress(OSError):
            self._lock.close()


def _git_commit() -> str | None:
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

"""Files that are written whole or not at all, the cache folder and locks."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError, DataError


def write_json(path: Path, value: Any, option: str = "--output") -> None:
    """Write atomically: a reader finds the old file or the new one.

    Raises:
        ConfigError: it cannot be written; `option` says who asked for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(path.name + ".tmp")
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.with_name(path.name + ".tmp").unlink(missing_ok=True)
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}") from None


def cache_folder() -> Path:
    """Where what can be made again is kept: ``$XDG_CACHE_HOME/hw_speech``, by default ``~/.cache/hw_speech``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path in the variable is invalid and to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "hw_speech"


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, no other process is inside for the same `path`, a small file that stays behind.

    Raises:
        DataError: the file cannot be made, for example because its folder is read-only.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "a")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(f"{path}: cannot be written to: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Files that are written whole or not at all, the cache folder and locks."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from hw_base.errors import ConfigError, DataError

log = logging.getLogger(__name__)

# What a killed process leaves beside its target ends so.
TEMPORARY = ".tmp"


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[Path]:
    """Where to write the new content of a file; whenever the process dies, `path` is what it was or complete.

    Args:
        path: the file; its folder is made.
        durable: it survives a power failure too; False, which is faster, where a lost file is just made again.

    Yields:
        A path in the same folder where nothing lies yet. Where the block fails, what it wrote is removed.

    Raises:
        OSError: the folder cannot be made, or the file cannot be replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    try:
        yield scratch
        move(scratch, path, durable)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
        raise


def is_temporary(path: Path) -> bool:
    """Whether `replacing` gave a file its name, and its process ended before it was complete."""
    return re.fullmatch(rf".+\.[0-9a-f]{{8}}{re.escape(TEMPORARY)}", path.name) is not None


def move(scratch: Path, path: Path, durable: bool = True) -> None:
    """Put a complete file in the place of another one in the same folder, atomically; see `replacing`."""
    if durable:
        _sync(scratch)
    os.replace(scratch, path)
    if durable:
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot flush a folder; they write its entries on their own.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path) as scratch:
        # In the locale C a path of other letters is a text of escaped bytes: they are written as they were given.
        scratch.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_json(path: Path, value: Any, option: str = "--output") -> None:
    """Write atomically: a reader finds the old file or the new one.

    Raises:
        ConfigError: it cannot be written; `option` says who asked for it.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    try:
        write_text(path, text)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}") from None


def cache_folder() -> Path:
    """Where what can be made again is kept: ``$XDG_CACHE_HOME/hw_speech``, by default ``~/.cache/hw_speech``."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path in the variable is invalid and to be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "hw_speech"


def lock(file: IO[Any], where: str, wait: bool = True) -> Literal["held", "busy", "missing"]:
    """Take the lock of an open file; it ends when the file is closed, however the process ends.

    Args:
        file: open for writing.
        where: what the lock protects, for the warning about a file system that has no locks.
        wait: until no other process holds it.

    Returns:
        ``busy``, if another process holds it and `wait` is False; ``missing``, if the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "busy"
    except OSError as error:
        reason = f"its file system cannot lock files ({error.strerror})"
        log.warning("%s: %s; make sure that no other process writes there", where, reason)
        return "missing"
    return "held"


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], waiting: str | None = None, hint: str = "") -> Iterator[bool]:
    """Inside, no other process is inside for the same `path`, a small file that stays behind.

    Args:
        path: of the file.
        waiting: logged where another process is inside and must be waited for.
        hint: what to do where the file cannot be made, for the message.

    Yields:
        False where the file system has no locks, and others may be inside too.

    Raises:
        DataError: the file cannot be made, for example because its folder is read-only.
    """
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a")  # noqa: SIM115 - closed below
    except OSError as error:
        raise DataError(f"{path}: cannot be written to: {error.strerror}{hint}") from error
    with file:
        found = lock(file, os.fspath(path), wait=False)
        if found == "busy":
            if waiting is not None:
                log.info("%s", waiting)
            found = lock(file, os.fspath(path))
        yield found == "held"

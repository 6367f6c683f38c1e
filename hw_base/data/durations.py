"""Durations of many files: from their headers, in parallel, and remembered outside the data folder."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from hw_base.audio import io as audio
from hw_base.data.dataset import Record
from hw_base.errors import DataError
from hw_base.storage import cache_folder, replacing
from hw_base.texts.files import from_json

log = logging.getLogger(__name__)

_FORMAT = 2
_THREADS = 8


def with_durations(root: str | os.PathLike[str], records: Sequence[Record]) -> list[Record]:
    """The records with the durations of their files.

    A file's duration is remembered with its size and modification time and read again when either changes. A cache
    that is damaged or cannot be written costs time and a line in the log, nothing else.

    Args:
        root: the corpus's folder; each has a cache file of its own.
        records: whose ``audio_path`` is to be measured; their own durations are not looked at.

    Returns:
        list[Record]: in the same order; an unreadable file has duration 0 and ``extra["audio_error"]`` says why.
    """
    folder = os.path.abspath(root)
    digest = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    cache = cache_folder() / "durations" / f"{digest}.json"
    known = _read(cache)
    paths = [os.path.relpath(os.path.abspath(record.audio_path), folder) for record in records]
    with ThreadPoolExecutor(_THREADS) as pool:
        entries = list(pool.map(lambda path: _measure(os.path.join(folder, path), known.get(path)), paths))
    fresh = {path: entry for path, entry in zip(paths, entries, strict=True) if not isinstance(entry, str)}
    if any(known.get(path) != entry for path, entry in fresh.items()):
        _write(cache, {**known, **fresh})
    return [_measured(record, entry) for record, entry in zip(records, entries, strict=True)]


def _measured(record: Record, entry: list[float] | str) -> Record:
    if isinstance(entry, str):
        return replace(record, duration=0.0, extra={**record.extra, "audio_error": entry})
    return replace(record, duration=entry[2])


def _measure(path: str, known: list[float] | None) -> list[float] | str:
    """``[size in bytes, modification time, seconds of audio]``, or why there is none."""
    try:
        status = os.stat(path)
        if known is not None and known[:2] == [status.st_size, status.st_mtime]:
            return known
        return [status.st_size, status.st_mtime, audio.info(path).duration]
    except OSError as error:
        return f"{path}: {error.strerror}"
    except (DataError, ValueError) as error:  # a name with a zero byte is a ValueError
        return f"{path!r}: {error}" if isinstance(error, ValueError) else str(error)


def _read(cache: Path) -> dict[str, list[float]]:
    try:
        content: Any = from_json(cache.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return {}
        if content["digest"] != _digest(content["files"]):
            raise ValueError("its content is not what was written")
        entries = {str(path): [float(number) for number in entry] for path, entry in content["files"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.warning("%s: an unreadable cache, computed again (%s)", cache, error)
        return {}
    return {path: entry for path, entry in entries.items() if len(entry) == 3}


def _digest(entries: dict[str, list[float]]) -> str:
    return hashlib.blake2b(json.dumps(entries).encode(), digest_size=16).hexdigest()


def _write(cache: Path, entries: dict[str, list[float]]) -> None:
    """Under a temporary name first, so that two runs that start together cannot mix their files."""
    try:
        with replacing(cache, durable=False) as scratch:
            content = {"format": _FORMAT, "digest": _digest(entries), "files": entries}
            scratch.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        log.warning("%s: the durations cannot be cached (%s)", cache, error.strerror)

"""The time that it takes to make batches, by stages: reading, decoding, augmenting, features, collating."""

import contextlib
import cProfile
import itertools
import pstats
import time
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from hw_base.data.dataset import Record
from hw_base.data.loader import Loader

Function = tuple[str, int, str]  # file, line, name

REST = "the rest of items"
# A stage is what functions of these files and rooms take, with all that they call outside of these.
_FILES = {"collate.py": "collate", "mel.py": "features"}
_ROOMS = {
    "augmentations": "augment",
    "features": "features",
    "text_encoders": "text",
    "text": "text",
    "alignment": "durations",
}


def measure(loader: Loader, n: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Batches from the beginning of the first epoch, made in this process, and the seconds of each, by stages.

    Half of them are made under Python's profiler, which says the shares, the others say how long it takes without.

    Args:
        loader: of training.
        n: how many batches of each half.

    Returns:
        batches: 2 n of them, or as many as an epoch has.
        seconds: of a batch, by stage.
    """
    profiler = cProfile.Profile()
    with _files_read_first(loader):
        source = loader.here(2 * n)
        batches, profiled = _timed(itertools.islice(source, n), profiler)
        more, plain = _timed(source, None)
    shares = _stages(pstats.Stats(profiler))
    each = plain / len(more) if more else profiled / len(batches)
    total = sum(shares.values()) or 1.0
    return batches + more, {stage: each * value / total for stage, value in shares.items()}


def _timed(source: Iterator[Any], profiler: cProfile.Profile | None) -> tuple[list[Any], float]:
    started = time.perf_counter()
    with profiler or contextlib.nullcontext():
        batches = list(source)
    return batches, time.perf_counter() - started


@contextlib.contextmanager
def _files_read_first(loader: Loader) -> Iterator[None]:
    """Inside, each file is read as it lies there before it is decoded, so that both are told apart."""
    datasets = loader.split.datasets
    for dataset in datasets:
        original = dataset.read

        def read(record: Record, original: Any = original) -> Any:
            _read_bytes(record.audio_path)
            return original(record)

        setattr(dataset, "read", read)  # noqa: B010 - a method of this one object
    try:
        yield
    finally:
        for dataset in datasets:
            delattr(dataset, "read")


def _read_bytes(path: str) -> None:
    with contextlib.suppress(OSError, ValueError):  # the decoder's to report
        Path(path).read_bytes()


def _stage(function: Function) -> str | None:
    """Whose time a function's is; None where it is its callers'."""
    file, _, name = function
    parts = PurePath(file).parts
    if name == "_read_bytes" and file == __file__:
        return "read files"
    if "site-packages" in parts or not file.endswith(".py"):
        return None
    if parts[-2:] == ("audio", "io.py"):
        return "decode" if name == "load" else None
    if parts[-2:] == ("data", "split.py") and name == "__getitem__":
        return REST
    if parts[-2:] == ("data", "cache.py"):
        return "the cache" if name in ("get", "put", "as_int16") else None
    if parts[-1] in _FILES and parts[-2] in ("data", "audio"):
        return _FILES[parts[-1]]
    return next((_ROOMS[part] for part in reversed(parts[:-1]) if part in _ROOMS), None)


def _stages(stats: pstats.Stats) -> dict[str, float]:
    """Seconds of each stage; what nothing says a stage of counts for those who called it."""
    table: dict[Function, Any] = stats.stats  # type: ignore[attr-defined]
    known: dict[Function, dict[str, float]] = {}

    def shares(function: Function, above: frozenset[Function]) -> dict[str, float]:
        stage = _stage(function)
        if stage is not None:
            return {stage: 1.0}
        if function in known:
            return known[function]
        callers = {c: edge[3] for c, edge in table[function][4].items() if c in table and c not in above}
        total = sum(callers.values())
        found: dict[str, float] = {}
        for caller, seconds in callers.items():
            for name, share in shares(caller, above | {function}).items():
                found[name] = found.get(name, 0.0) + share * (seconds / total if total else 1 / len(callers))
        known[function] = found or {REST: 1.0}
        return known[function]

    seconds: dict[str, float] = {}
    for function, (_, _, own, _, _) in table.items():
        for name, share in shares(function, frozenset()).items():
            seconds[name] = seconds.get(name, 0.0) + share * own
    return dict(sorted(seconds.items(), key=lambda pair: -pair[1]))

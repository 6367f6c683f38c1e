"""Reading what a run left in its folder. Nothing there is trusted: what cannot be used is left out."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hw_base.errors import DataError
from hw_base.texts.files import from_json
from hw_base.writers.jsonl import read_rows

log = logging.getLogger(__name__)

Row = Mapping[str, Any]
_LARGEST = 200_000_000  # bytes of one JSON file


@dataclass(frozen=True)
class Media:
    """A sound or picture of a run.

    Attributes:
        split: of the data.
        example: what it shows, ``speaker/utterance``; empty where the split has one.
        what: ``synthesized``, ``spectrogram``, ...
        step: batches seen when it was made.
        path: the file.
    """

    split: str
    example: str
    what: str
    step: int
    path: Path


@dataclass(frozen=True)
class Output:
    """A file that ``test.py`` wrote.

    Attributes:
        path: the file.
        rows: one object an utterance.
        about: what ``metrics.json`` says of it: checkpoint, decoder, splits with their figures.
    """

    path: Path
    rows: Sequence[Row]
    about: Row


@dataclass(frozen=True)
class Run:
    """A run folder.

    Attributes:
        path: the folder.
        name: short, different from those of the other runs.
        config: complete, as it was used.
        rows: of ``metrics.jsonl``.
        outputs: of ``test.py``, where they lie in the folder.
        findings: of ``diagnosis.jsonl``.
        commit: of the code; empty where unknown.
        machine: of ``machine.json``: where and how it was started.
    """

    path: Path
    name: str
    config: Row
    rows: Sequence[Row]
    outputs: Sequence[Output] = ()
    findings: Sequence[Row] = ()
    commit: str = ""
    machine: Row = field(default_factory=dict)

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.config.get("task", ""))

    @cached_property
    def curves(self) -> dict[str, dict[str, tuple[list[int], list[float]]]]:
        """Metric -> split -> steps and values; values that are not finite are left out."""
        found: dict[str, dict[str, tuple[list[int], list[float]]]] = {}
        for row in self.rows:
            if any(kind in row for kind in ("table", "text", "image", "audio")):
                continue
            step, split = row.get("step"), str(row.get("split", ""))
            for key, value in row.items():
                number = finite(value)
                if key in ("step", "split") or number is None or not isinstance(step, int):
                    continue
                steps, values = found.setdefault(key, {}).setdefault(split, ([], []))
                steps.append(step)
                values.append(number)
        return found

    @cached_property
    def media(self) -> list[Media]:
        """Sounds and pictures that lie in the folder, in the order of the record."""
        found = []
        for row in self.rows:
            key, file, step = row.get("audio", row.get("image")), row.get("file"), row.get("step")
            if not isinstance(key, str) or not isinstance(file, str) or not isinstance(step, int):
                continue
            path = (self.path / file).resolve()
            if path.is_relative_to(self.path.resolve()) and path.is_file():
                # Older records have an underscore where those of today have a slash.
                example, _, what = key.rpartition("/" if "/" in key else "_")
                found.append(Media(str(row.get("split", "")), example, what, step, path))
        return found

    def tables(self, name: str) -> list[Row]:
        """The tables of this name, first to last."""
        return [row for row in self.rows if row.get("table") == name and isinstance(row.get("rows"), list)]

    def last(self, split: str, key: str) -> float | None:
        """The last value of a curve."""
        _, values = self.curves.get(key, {}).get(split, ([], []))
        return values[-1] if values else None


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Read run folders.

    Raises:
        DataError: a folder that holds no run.
    """
    names = _names(paths)
    return [_read(path, name) for path, name in zip(paths, names, strict=True)]


def finite(value: Any) -> float | None:
    """The number, or None for what is none or is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with so many of the folders above as make them differ."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, 6):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{part[-1]} ({number})" for number, part in enumerate(parts, 1)]


def _read(path: Path, name: str) -> Run:
    record, config = path / "metrics.jsonl", _json(path / "config.json", dict)
    if not record.is_file() or config is None:
        raise DataError(
            f"{path}: no run: a run folder holds metrics.jsonl and config.json; give one that train.py made"
        )
    try:
        rows = read_rows(record)
    except OSError as error:
        raise DataError(f"{record}: {error.strerror or error}") from None
    return Run(
        path,
        name,
        config,
        rows,
        outputs=list(_outputs(path)),
        findings=_findings(path / "diagnosis.jsonl"),
        commit=_first_line(path / "git_commit.txt"),
        machine=_json(path / "machine.json", dict) or {},
    )


def _outputs(folder: Path) -> Iterator[Output]:
    """What ``metrics.json`` names, and ``output*.json``, where they lie in the folder itself."""
    about = _json(folder / "metrics.json", dict) or {}
    named = {name for name in about if name == Path(name).name}
    for name in sorted(named | {path.name for path in folder.glob("output*.json")}):
        rows = _json(folder / name, list)
        if rows:
            entry = about.get(name)
            kept = [row for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]
            yield Output(folder / name, kept, entry if isinstance(entry, dict) else {})


def _findings(path: Path) -> list[Row]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    except OSError as error:
        log.warning("%s is left out: %s", path, error.strerror)
        return []
    found: list[Row] = []
    for line in lines:
        try:
            row = from_json(line)
        except ValueError:  # half a line of a killed run
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def _json(path: Path, kind: type) -> Any:
    """The content of a file; None where it is missing or of another kind."""
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST} bytes")
        content = from_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        log.warning("%s is left out: %s", path, error)
        return None
    if not isinstance(content, kind):
        log.warning("%s is left out: expected %s", path, kind.__name__)
        return None
    return content


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0][:100]
    except OSError:
        return ""

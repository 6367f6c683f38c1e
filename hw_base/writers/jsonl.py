"""The record of a run: one JSON object a line, complete up to the last line whatever happens to the process."""

import json
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.errors import MissingPackageError
from hw_base.storage import replacing
from hw_base.texts.files import from_json
from hw_base.writers.base import Cell, Writer
from hw_base.writers.media import png_bytes, wav_bytes

log = logging.getLogger(__name__)

_NON_FINITE = {math.inf: "Infinity", -math.inf: "-Infinity"}


class JsonlWriter(Writer):
    """Appends to a file of JSON lines; pictures and sounds become files in ``media`` beside it.

    Scalars of one split and step make one line, ``{"step": 10, "split": "train", "ctc": 1.2}``; a table is
    ``{"step", "split", "table": name, "columns", "rows"}``, a text ``{"step", "split", "text": name, "value"}``, a
    picture or sound ``{"step", "split", "image" or "audio": name, "file"}``, with ``"caption"`` if it has one. JSON has
    no NaN: numbers that are not finite are the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``, which ``float``
    reads.

    Args:
        path: the file, usually ``metrics.jsonl`` in the run folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None
        self._size = 0
        self._without_pictures = False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """One line for each split among the names."""
        rows: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            split, key = _split(name)
            row = rows.setdefault(split, {"step": step, "split": split})
            if key in ("step", "split"):
                raise ValueError(f"{name!r} cannot be recorded: 'step' and 'split' name the line itself")
            row[key] = _plain(value)
        for row in rows.values():
            self._append(row)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """One line."""
        split, key = _split(name)
        cells = [[_plain(cell) for cell in row] for row in rows]
        self._append({"step": step, "split": split, "table": key, "columns": list(columns), "rows": cells})

    def text(self, name: str, text: str, step: int) -> None:
        """One line."""
        split, key = _split(name)
        self._append({"step": step, "split": split, "text": key, "value": text})

    def image(self, name: str, image: NDArray[np.uint8], step: int, caption: str = "") -> None:
        """A PNG file and a line that points to it."""
        try:
            content = png_bytes(image)
        except MissingPackageError as error:  # the record continues without pictures
            if not self._without_pictures:
                log.warning("%s", error)
            self._without_pictures = True
        else:
            self._file("image", name, content, ".png", step, caption)

    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int, caption: str = "") -> None:
        """A WAV file and a line that points to it."""
        self._file("audio", name, wav_bytes(waveform, sample_rate), ".wav", step, caption)

    def _file(self, kind: str, name: str, content: bytes, suffix: str, step: int, caption: str) -> None:
        split, key = _split(name)
        safe_split, safe_key = (re.sub(r"[^\w-]+", "_", part) or "_" for part in (split, key))
        path = self.path.parent / "media" / safe_split / f"{safe_key}-{step:08d}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        row = {"step": step, "split": split, kind: key, "file": path.relative_to(self.path.parent).as_posix()}
        self._append({**row, "caption": caption} if caption else row)

    def _append(self, row: Mapping[str, Any]) -> None:
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", errors="replace")
        try:
            written = os.write(self._descriptor, line)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} bytes could be written to {self.path}")
        except OSError:
            os.ftruncate(self._descriptor, self._size)  # a full disk must not leave half a line before the next one
            raise
        self._size += len(line)

    def _open(self) -> None:
        """Open for appending, without the half line that a killed process may have left."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        content = self.path.read_bytes()
        self._size = content.rfind(b"\n") + 1
        if self._size < len(content):
            os.ftruncate(self._descriptor, self._size)

    def truncate_after(self, step: int) -> None:
        """Drop every row of a later step, all at once or not at all; a line that cannot be read goes too."""
        self.close()
        if not self.path.exists():
            return
        kept = [line for line, row in _lines(self.path) if row is not None and row.get("step", 0) <= step]
        with replacing(self.path) as scratch:
            scratch.write_bytes(b"".join(kept))

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue after the rows of `step`."""
        self.truncate_after(step)

    def close(self) -> None:
        """Close the file; a later report opens it again."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a record, for plots and comparisons; half a line at the end of a killed run is left out."""
    return [row for _, row in _lines(Path(path)) if row is not None]


def _lines(path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        row = None
        if line.endswith(b"\n"):
            try:
                row = from_json(line)
            except ValueError:
                log.warning("%s:%d is not JSON and is left out", path, number)
        yield line, row if isinstance(row, dict) else None


def _split(name: str) -> tuple[str, str]:
    """``train/generator/mel`` -> ``train``, ``generator/mel``; a name without a split has the empty one."""
    split, slash, key = name.partition("/")
    return (split, key) if slash else ("", name)


def _plain(value: Any) -> Any:
    """What JSON can hold; numbers of numpy and torch become Python's."""
    if isinstance(value, (str, bool, int)) or value is None:
        return value
    number = float(value)
    if math.isnan(number):
        return "NaN"
    return _NON_FINITE.get(number, number)

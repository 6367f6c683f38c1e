"""A corpus listed in a JSON Lines file, one utterance a line."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.datasets.names import bad_lines, ids_from_paths
from hw_base.datasets.parts import Part, Share, SplitBy, choose_part
from hw_base.errors import DataError
from hw_base.registry import DATASETS
from hw_base.texts.files import from_json, read_lines


@DATASETS.register()
class Manifest(BaseDataset):
    """Each line is an object such as ``{"audio_path": "clips/a.flac", "text": "HELLO", "duration": 1.5}``.

    * ``audio_path`` (required): relative to the manifest's folder, or absolute;
    * ``text``: the transcript;
    * ``duration``: in seconds; read from the file where it is left out;
    * ``offset``: seconds at which the utterance begins in its file, for segments of one long recording; with a
      ``duration`` so much is read from there (from 0 without an ``offset``), without one all that follows;
    * ``speaker``;
    * ``utterance_id``: by default the file's name without its extension, with its folders where that is not unique,
      and with the offset in milliseconds where several are segments of one file;
    * any other key is kept in `Record.extra`.

    Args:
        path: of the JSON Lines file, UTF-8; empty lines are allowed.
        part: a fixed part of the list, see `hw_base.datasets.parts.choose_part`; ``all`` is everything.
        split_by: ``speaker`` gives each speaker to one part, ``utterance`` divides the files of all of them.
        share: of the speakers or files in ``val``, and as many in ``test``.

    Raises:
        DataError: the file cannot be read, holds no utterance, has bad lines, each named by its number, or cannot be
            divided.
    """

    def __init__(self, path: PathText, part: Part = "all", split_by: SplitBy = "utterance", share: Share = 0.1) -> None:
        manifest = Path(path)
        numbered: list[tuple[int, Record]] = []
        problems: list[tuple[int, str]] = []
        for number, line in enumerate(read_lines(manifest), start=1):
            if not line.strip():
                continue
            try:
                numbered.append((number, _record(line)))
            except ValueError as error:
                problems.append((number, str(error)))
        records = _named([record for _, record in numbered], manifest.parent)
        line_of: dict[str, int] = {}
        for (number, _), record in zip(numbered, records, strict=True):
            first = line_of.setdefault(record.utterance_id, number)
            if first != number:
                problems.append((number, f"the utterance id {record.utterance_id!r} stands in line {first} already"))
        if problems:
            raise DataError(bad_lines(f"Manifest: {manifest}", problems))
        if not records:
            raise DataError(f"Manifest: {manifest} lists no utterances")
        records = choose_part(records, part, split_by, share, f"Manifest {manifest}", manifest.parent)
        super().__init__(_complete(records, manifest.parent), name=f"Manifest {manifest.name}")


def _named(records: list[Record], folder: Path) -> list[Record]:
    """The records with the place of their files, and with ids where they had none."""
    nameless = [i for i, record in enumerate(records) if not record.utterance_id]
    ids = ids_from_paths([records[i].audio_path for i in nameless], folder, whole=False)
    counts = Counter(ids)
    for i, name in zip(nameless, ids, strict=True):
        start = records[i].offset if counts[name] > 1 else None
        records[i] = replace(records[i], utterance_id=name if start is None else f"{name}_{round(1000 * start):06d}")
    return [replace(record, audio_path=str(folder / record.audio_path)) for record in records]


def _complete(records: list[Record], folder: Path) -> list[Record]:
    """Durations for the records that came without."""
    unknown = [i for i, record in enumerate(records) if math.isnan(record.duration)]
    for i, record in zip(unknown, with_durations(folder, [records[i] for i in unknown]), strict=True):
        rest = max(0.0, record.duration - (record.offset or 0.0))  # an offset behind the end leaves nothing
        records[i] = replace(record, duration=rest)
    return [record if record.offset is None else _segment(record) for record in records]


def _segment(record: Record) -> Record:
    reading = f"segment {record.offset:g} s + {record.duration:g} s"
    return replace(record, extra={**record.extra, "reading": reading})


def _record(line: str) -> Record:
    """A record, with the duration NaN where the line has none; a ValueError says what is wrong."""
    try:
        entry: Any = from_json(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object in braces, found {type(entry).__name__}")
    audio_path = _string(entry, "audio_path")
    if not audio_path:
        raise ValueError("audio_path is missing or empty")
    duration, offset = _seconds(entry, "duration"), _seconds(entry, "offset")
    if duration == 0:
        raise ValueError("duration: expected more than 0 seconds, found 0")
    text, speaker = _string(entry, "text"), _string(entry, "speaker")
    utterance_id = _string(entry, "utterance_id") or ""
    if duration is not None and offset is None:
        offset = 0.0
    return Record(
        utterance_id, audio_path, math.nan if duration is None else duration, text, speaker or "", entry, offset
    )


def _seconds(entry: dict[str, Any], key: str) -> float | None:
    value = entry.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ValueError(f"{key}: expected seconds, found {value!r}")
    return float(value)


def _string(entry: dict[str, Any], key: str) -> str | None:
    value = entry.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key}: expected a string, found {value!r}")
    return value

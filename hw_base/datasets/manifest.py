"""A corpus listed in a JSON Lines file, one utterance a line."""

import json
import math
from pathlib import Path
from typing import Any

from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import DataError
from hw_base.registry import DATASETS

_MAX_REPORTED = 10


@DATASETS.register()
class Manifest(BaseDataset):
    """Each line is an object such as ``{"audio_path": "clips/a.flac", "text": "HELLO", "duration": 1.5}``.

    * ``audio_path`` (required): relative to the manifest's folder, or absolute;
    * ``text``: the transcript;
    * ``duration``: in seconds; read from the file where it is left out;
    * ``speaker``; ``utterance_id``: by default the file's name without its extension;
    * any other key is kept in `Record.extra`.

    Args:
        path: of the JSON Lines file, UTF-8; empty lines are allowed.

    Raises:
        DataError: the file cannot be read, holds no utterance, or has bad lines, each named by its number.
    """

    def __init__(self, path: PathText) -> None:
        manifest = Path(path)
        try:
            lines = manifest.read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"Manifest: {manifest} cannot be read: {error}") from error
        records: list[Record] = []
        problems: list[str] = []
        line_of: dict[str, int] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                record = _record(line, manifest.parent)
                first = line_of.setdefault(record.utterance_id, number)
                if first != number:
                    raise ValueError(f"the utterance id {record.utterance_id!r} stands in line {first} already")
            except ValueError as error:
                problems.append(f"Manifest: {manifest}, line {number}: {error}")
            else:
                records.append(record)
        if problems:
            rest = len(problems) - _MAX_REPORTED
            more = [f"Manifest: {manifest}: {rest} more bad lines"] if rest > 0 else []
            raise DataError("\n".join(problems[:_MAX_REPORTED] + more))
        if not records:
            raise DataError(f"Manifest: {manifest} lists no utterances")
        super().__init__(_complete(records, manifest.parent), name=f"Manifest {manifest.name}")


def _complete(records: list[Record], folder: Path) -> list[Record]:
    """Durations for the records that came without."""
    unknown = [i for i, record in enumerate(records) if math.isnan(record.duration)]
    for i, record in zip(unknown, with_durations(folder, [records[i] for i in unknown]), strict=True):
        records[i] = record
    return records


def _record(line: str, folder: Path) -> Record:
    """A record, with the duration NaN where the line has none; a ValueError says what is wrong."""
    try:
        entry: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(entry, dict):
        raise ValueError(f"expected an object in braces, found {type(entry).__name__}")
    audio_path = _string(entry, "audio_path")
    if not audio_path:
        raise ValueError("audio_path is missing or empty")
    duration = entry.pop("duration", None)
    if duration is None:
        duration = math.nan
    elif isinstance(duration, bool) or not isinstance(duration, (int, float)) or not 0 <= duration < math.inf:
        raise ValueError(f"duration: expected seconds, found {duration!r}")
    text, speaker = _string(entry, "text"), _string(entry, "speaker")
    utterance_id = _string(entry, "utterance_id") or Path(audio_path).stem
    return Record(utterance_id, str(folder / audio_path), float(duration), text, speaker or "", entry)


def _string(entry: dict[str, Any], key: str) -> str | None:
    value = entry.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key}: expected a string, found {value!r}")
    return value

"""A corpus in tar files of many utterances each, in WebDataset's format, read in any order through an index.

`python -m hw_base.pack` writes them. Few large files are what network disks and copies of a corpus want.

WebDataset's own reader streams: it shuffles in a buffer, and which worker reads which shard decides what a batch holds,
so that a run cannot be resumed in mid-epoch to the bit. Here an index says where in which tar file each utterance lies;
so shuffling from the seed, batches of similar duration, shares of processes and resuming are those of every dataset.
"""

import json
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from hw_base.audio import io as audio
from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.datasets.names import bad_lines
from hw_base.errors import DataError
from hw_base.registry import DATASETS
from hw_base.storage import replacing
from hw_base.texts.files import from_json, read_lines

INDEX = "index.jsonl"
# Where audio lies in its shard, in `Record.extra`.
_MEMBER = "member"
_OWN = ("utterance_id", "duration", "text", "speaker")


@DATASETS.register()
class Shards(BaseDataset):
    """A folder of tar files and their ``index.jsonl``, as `hw_base.pack` writes them.

    Args:
        path: of the folder.

    Raises:
        DataError: there is no index, it has bad lines, each named by its number, or a shard is missing or shorter than
            the index says.
    """

    def __init__(self, path: PathText) -> None:
        folder = Path(path)
        if not (folder / INDEX).is_file():
            raise DataError(f"Shards: {folder}: no {INDEX}; write it: python -m hw_base.pack --index {folder}")
        records: list[Record] = []
        problems: list[tuple[int, str]] = []
        ends: dict[str, int] = {}
        for number, line in enumerate(read_lines(folder / INDEX), start=1):
            if not line.strip():
                continue
            try:
                record = _record(from_json(line), folder)
            except (ValueError, TypeError, KeyError) as error:
                problems.append((number, f"not an entry of an index: {error}"))
                continue
            records.append(record)
            start, size = record.extra[_MEMBER]
            ends[record.audio_path] = max(ends.get(record.audio_path, 0), start + size)
        if problems:
            raise DataError(bad_lines(f"Shards: {folder / INDEX}", problems))
        if not records:
            raise DataError(f"Shards: {folder / INDEX} lists no utterances")
        for shard, end in ends.items():
            _refuse_short(shard, end)
        super().__init__(records, name=f"Shards {folder.name}")

    def read(self, record: Record) -> tuple[Tensor, int]:
        start, size = record.extra[_MEMBER]
        try:
            with open(record.audio_path, "rb") as shard:
                shard.seek(start)
                content = shard.read(size)
        except OSError as error:
            raise DataError(f"{record.audio_path}: cannot be read: {error.strerror}") from error
        return audio.load(record.audio_path, content=content)


def write_index(folder: Path) -> int:
    """Find the utterances of all ``*.tar`` of a folder and write its index; what else they hold is left alone.

    A member ``KEY.json`` beside the audio ``KEY.EXTENSION`` holds what is known of an utterance: ``duration`` in
    seconds (read from the audio where it is missing), ``text``, ``speaker``, ``utterance_id`` (the key, if missing).

    Returns:
        Number of utterances.

    Raises:
        DataError: there are no shards, one is damaged, or the metadata of an utterance are.
    """
    shards = sorted(folder.glob("*.tar"))
    if not shards:
        raise DataError(f"{folder}: no *.tar files")
    count = 0
    with replacing(folder / INDEX) as scratch, scratch.open("w", encoding="utf-8") as file:
        for shard in shards:
            for entry in _entries(shard):
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
                count += 1
    return count


def _entries(shard: Path) -> Iterator[dict[str, Any]]:
    """The lines of one shard's utterances, in its order."""
    try:
        with tarfile.open(shard) as archive:
            groups: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in archive:
                _, dot, extension = member.name.rpartition("/")[2].partition(".")
                if member.isfile() and dot:
                    key = member.name[: len(member.name) - len(extension) - 1]
                    groups.setdefault(key, {})[f".{extension.lower()}"] = member
            for key, members in groups.items():
                found = next((members[e] for e in audio.EXTENSIONS if e in members), None)
                if found is not None:
                    yield _entry(archive, shard, key, found, members.get(".json"))
    except tarfile.TarError as error:
        raise DataError(f"{shard}: not a whole tar file: {error}") from error


def _entry(
    archive: tarfile.TarFile, shard: Path, key: str, sound: tarfile.TarInfo, about: tarfile.TarInfo | None
) -> dict[str, Any]:
    said: Any = {}
    if about is not None:
        stream = archive.extractfile(about)
        assert stream is not None
        try:
            said = json.load(stream)
        except ValueError as error:
            raise DataError(f"{shard}: {about.name}: not JSON: {error}") from error
        if not isinstance(said, dict):
            raise DataError(f"{shard}: {about.name}: expected an object in braces, found {type(said).__name__}")
    if "duration" not in said:
        stream = archive.extractfile(sound)
        assert stream is not None
        waveform, rate = audio.load(shard, content=stream.read())
        said["duration"] = len(waveform) / rate
    return {"utterance_id": key, **said, "shard": shard.name, _MEMBER: [sound.offset_data, sound.size]}


def _record(entry: dict[str, Any], folder: Path) -> Record:
    """A record of one line; a ValueError, TypeError or KeyError says what is wrong."""
    shard, (start, size) = str(entry.pop("shard")), entry[_MEMBER]
    if Path(shard).name != shard or min(int(start), int(size)) < 0:
        raise ValueError(f"shard {shard!r}, member {entry[_MEMBER]}")
    utterance_id, duration, text, speaker = (entry.pop(key, None) for key in _OWN)
    entry["reading"] = f"member at {start}"
    return Record(str(utterance_id), str(folder / shard), float(duration), text, speaker or "", entry)


def _refuse_short(shard: str, end: int) -> None:
    try:
        size = os.stat(shard).st_size
    except OSError as error:
        raise DataError(f"Shards: {shard}: {error.strerror}") from error
    if size < end:
        raise DataError(f"Shards: {shard}: {size} bytes where the index says at least {end}: copy it again")


def sample(key: str, record: Record, content: bytes, extension: str) -> dict[str, Any]:
    """An utterance as WebDataset's writers take it.

    Args:
        key: of its members; without dots, which end it there.
        record: of the utterance.
        content: of the audio file.
        extension: of the audio, ``.flac``.
    """
    extra = {key: value for key, value in record.extra.items() if key not in ("reading", "audio_error")}
    about = {"utterance_id": record.utterance_id, "duration": record.duration, "text": record.text}
    about |= {"speaker": record.speaker, **extra}
    return {"__key__": key, extension.removeprefix("."): content, "json": json.dumps(about).encode()}


def pack(utterances: Iterable[tuple[Record, bytes, str]], folder: Path, shard_bytes: int) -> int:
    """Write shards and their index.

    Args:
        utterances: records, with the content and the extension of their audio files.
        folder: new, or empty.
        shard_bytes: bytes after which a new shard is started.

    Returns:
        Number of utterances.
    """
    from webdataset import ShardWriter

    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder / "shard-%06d.tar").replace("%", "%%").replace("%%06d", "%06d")
    with ShardWriter(pattern, maxcount=1 << 40, maxsize=shard_bytes, verbose=0, encoder=False, mtime=0.0) as writer:
        for number, (record, content, extension) in enumerate(utterances):
            writer.write(sample(f"{number:09d}", record, content, extension))
    return write_index(folder)

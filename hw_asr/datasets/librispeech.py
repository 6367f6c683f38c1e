"""LibriSpeech (Panayotov et al., ICASSP 2015) in its official folders."""

import logging
from pathlib import Path
from typing import Literal

from hw_base.audio import EXTENSIONS
from hw_base.dataset import BaseDataset, Record
from hw_base.errors import DataError
from hw_base.index import with_durations
from hw_base.registry import DATASETS

logger = logging.getLogger(__name__)

Part = Literal[
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
]


@DATASETS.register()
class LibriSpeech(BaseDataset):
    """One part of LibriSpeech: ``<root>/<part>/<speaker>/<chapter>/<utterance>.flac``, with ``.trans.txt`` beside.

    MP3, as in the original recordings, and any other audio format will do as well. The root may be read-only.

    Args:
        root: the folder of the parts, or the one that holds ``LibriSpeech``, where the official archives unpack.
        part: one part; list several datasets to join parts.

    Raises:
        DataError: the part is missing or empty, or an utterance has no transcript.
    """

    def __init__(self, root: str, part: Part) -> None:
        folder = _part_folder(Path(root).expanduser(), part)
        texts = _transcripts(folder)
        # Not `rglob`, which would also find what a stray archive or a hidden folder left somewhere.
        files = sorted(file for file in folder.glob("*/*/*") if _is_audio(file))
        if not files:
            raise DataError(f"LibriSpeech: {folder} has no audio files in <speaker>/<chapter>/")
        records = [_record(file, texts) for file in files]
        _refuse_repeated(records)
        if len(texts) > len(records):
            logger.warning("LibriSpeech %s: %d transcripts have no audio file", part, len(texts) - len(records))
        super().__init__(with_durations(folder, records), name=f"LibriSpeech {part}")


def _is_audio(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS and not file.name.startswith(".")


def _part_folder(root: Path, part: str) -> Path:
    expected = root / part
    # Archives unpack into a folder LibriSpeech; some hosts put each archive into a folder of its own.
    for folder in (expected, root / "LibriSpeech" / part, root / part / "LibriSpeech" / part):
        if folder.is_dir() and any(folder.glob("*/*/*.trans.txt")):
            return folder
    if expected.is_dir():
        raise DataError(f"LibriSpeech: {expected} has no <speaker>/<chapter>/*.trans.txt; unpack the archive again")
    raise DataError(
        f"LibriSpeech: expected the folder {expected}, which does not exist; "
        f"download {part}.tar.gz from https://www.openslr.org/12 and unpack it, or correct root"
    )


def _transcripts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*/*/*.trans.txt")):
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"LibriSpeech: {file}: cannot be read: {error}") from error
        for line in lines:
            utterance_id, _, text = line.strip().partition(" ")
            if utterance_id:
                texts[utterance_id] = text.strip()
    return texts


def _record(file: Path, texts: dict[str, str]) -> Record:
    if file.stem not in texts:
        raise DataError(f"LibriSpeech: utterance {file.stem!r} has no transcript in {file.parent}")
    return Record(file.stem, str(file), 0.0, texts[file.stem], speaker=file.parent.parent.name)


def _refuse_repeated(records: list[Record]) -> None:
    seen: dict[str, Record] = {}
    for record in records:
        other = seen.setdefault(record.utterance_id, record)
        if other is not record:
            raise DataError(
                f"LibriSpeech: utterance {record.utterance_id!r} lies in two files: "
                f"{other.audio_path} and {record.audio_path}"
            )

"""LJSpeech (Ito and Johnson 2017): one reader, 13 100 sentences, 22.05 kHz."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Literal

from hw_base.audio.io import EXTENSIONS
from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.datasets import published_durations as durations
from hw_base.errors import DataError
from hw_base.registry import DATASETS
from hw_base.texts.files import read_lines

log = logging.getLogger(__name__)

# The corpus has no official split. Numbers within a chapter, so that every book is in every part.
_PERIOD = 20
_HELD_OUT = {0: "test", 10: "val"}


@DATASETS.register()
class LJSpeech(BaseDataset):
    """``<root>/metadata.csv`` with ``<id>|<as printed>|<with numbers spelled out>`` and ``<root>/wavs/<id>.wav``.

    Transcripts are the spelled-out ones. Only recordings that are there are listed, so a part of the corpus will do.

    With published alignments, ``<i>.npy`` being the durations of line i (from 0) of the whole corpus's metadata, in
    frames of 256 samples at 22,050 Hz, ``record.extra["symbol_durations"]`` is ``{"durations": [int, ...],
    "hop_length": 256, "sample_rate": 22050}``. The lines are those of ``metadata_full.csv`` where there is one, for a
    part of the corpus, otherwise those of ``metadata.csv``.

    Args:
        root: the folder that holds ``metadata.csv``.
        part: a fixed split by the number that ends the id, ``LJ001-0020``: multiples of 20 are ``test``, 10, 30 ... are
            ``val`` (5 % each), the others ``train``; ``all`` is everything, whatever the ids.
        alignments: the folder or the zip archive of the durations.

    Raises:
        DataError: the folder or ``metadata.csv`` is missing or malformed, or none of the part's recordings is there;
            or the alignments are, or one of them.
    """

    def __init__(
        self, root: PathText, part: Literal["train", "val", "test", "all"], alignments: PathText | None = None
    ) -> None:
        folder = Path(root)
        texts = _texts(folder / "metadata.csv")
        files = {p.stem: p for p in sorted((folder / "wavs").glob("*")) if p.suffix.lower() in EXTENSIONS}
        wanted = [name for name in texts if part == "all" or part == _part(name)]
        records = [Record(name, str(files[name]), 0.0, texts[name], speaker="LJ") for name in wanted if name in files]
        if not records:
            raise DataError(f"LJSpeech: {folder / 'wavs'} has none of the {len(wanted)} recordings of {part!r}")
        if len(records) < len(wanted):
            lost = [name for name in wanted if name not in files]
            log.warning("LJSpeech %s: %d transcripts have no audio file (first: %s)", part, len(lost), lost[0])
        if alignments is not None:
            records = _aligned(records, folder, Path(alignments))
        super().__init__(with_durations(folder, records), name=f"LJSpeech {part}")


def _part(name: str) -> str:
    if not name.rpartition("-")[2].isdecimal():
        raise DataError(
            f"LJSpeech: {name!r} does not end in a number, as LJ001-0020, and the parts go by it; set part to all, "
            "or read this voice with CustomDir, FileList or Manifest and their split_by"
        )
    return _HELD_OUT.get(int(name.rpartition("-")[2]) % _PERIOD, "train")


def _aligned(records: list[Record], folder: Path, source: Path) -> list[Record]:
    """The records with their published durations."""
    metadata = folder / "metadata_full.csv"
    row_of = {name: i for i, name in enumerate(_texts(metadata if metadata.exists() else folder / "metadata.csv"))}
    missing = [record.utterance_id for record in records if record.utterance_id not in row_of]
    if missing:
        raise DataError(f"LJSpeech: {metadata} has no line for {len(missing)} utterances, the first {missing[0]!r}")
    with durations.opened(source) as alignments:
        if len(alignments) > len(row_of):
            raise DataError(
                f"LJSpeech: {source} has durations for {len(alignments)} lines, but the metadata has {len(row_of)}: "
                f"put the whole corpus's metadata beside it as {metadata}"
            )
        missing = [record.utterance_id for record in records if row_of[record.utterance_id] not in alignments]
        if missing:
            shown = ", ".join(f"{name!r} ({row_of[name]}.npy)" for name in missing[:10])
            raise DataError(f"LJSpeech: {source} has no durations for {len(missing)} utterances: {shown}")
        return [_with_alignment(record, alignments.read(row_of[record.utterance_id])) for record in records]


def _with_alignment(record: Record, durations_of_it: list[int]) -> Record:
    alignment = {"durations": durations_of_it, "hop_length": 256, "sample_rate": 22050}
    return replace(record, extra={**record.extra, "symbol_durations": alignment})


def _texts(file: Path) -> dict[str, str]:
    """The transcripts by id, in the file's order."""
    if not file.exists():
        raise DataError(
            f"LJSpeech: expected the file {file}, which does not exist; "
            "get the corpus from https://keithito.com/LJ-Speech-Dataset, or correct root"
        )
    texts: dict[str, str] = {}
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        name, *versions = (part.strip() for part in line.split("|"))  # quotation marks are text here
        name = name.removesuffix(".wav")
        if not versions or not name or Path(name).name != name:
            raise DataError(f"LJSpeech: {file}, line {number}: expected <id>|<text>|<text>, found {line[:60]!r}")
        if name in texts:
            raise DataError(f"LJSpeech: {file}, line {number}: the id {name!r} appears twice")
        texts[name] = versions[-1] or versions[0]
    return texts

"""VCTK (Yamagishi et al. 2019, release 0.92): 110 English speakers of many accents, 48 kHz, two microphones."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from hw_base.audio.io import EXTENSIONS
from hw_base.audio.silence import speech_bounds
from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS, suggest
from hw_base.texts.files import read_transcript

log = logging.getLogger(__name__)

# The release's own folder first; then that of the first releases, which had one microphone.
_FOLDERS = ("wav48_silence_trimmed", "wav48")
_NAME = re.compile(r"(?P<sentence>[a-z]\d+_(?P<number>\d+))(?:_mic(?P<microphone>\d))?")

# The corpus has no official split. By number, because speakers share the sentences 1 to 24.
_PERIOD = 20
_HELD_OUT = {0: "test", 10: "val"}


@DATASETS.register()
class VCTK(BaseDataset):
    """``<root>/wav48_silence_trimmed/p225/p225_001_mic1.flac`` and ``<root>/txt/p225/p225_001.txt``.

    Any audio format and rate will do, and a part of the corpus; the folder of older releases, ``wav48/p225/
    p225_001.wav``, too. Recordings without a transcript (all of p315) have the text None.

    Args:
        root: the folder that holds both.
        part: a fixed split by the number of the sentence: multiples of 20 are ``test``, 10, 30, 50 ... are ``val`` (5 %
            each), the others ``train``; ``all`` is everything.
        speakers: keep these only, such as ``["p225", "p226"]``, in this order.
        sentences: keep these numbers only, such as ``[1, 24]``: to divide a part of the corpus as one likes.
        microphone: 1 or 2; p280 and p315 have only the first.
        trim_db: cut silence off both ends, that is, what is this many decibels below the loudest 20 ms; None keeps it.
        trim_margin: seconds of silence that stay at either end.

    Raises:
        ConfigError: a speaker is named who is not in the corpus.
        DataError: a folder is missing, or a speaker has no recordings of this part and microphone.
    """

    def __init__(
        self,
        root: PathText,
        part: Literal["train", "val", "test", "all"],
        speakers: Annotated[list[str], Field(min_length=1)] | None = None,
        sentences: Annotated[list[PositiveInt], Field(min_length=1)] | None = None,
        microphone: Literal[1, 2] = 1,
        trim_db: PositiveFloat | None = None,
        trim_margin: NonNegativeFloat = 0.05,
    ) -> None:
        folder = Path(root)
        audio = _audio_folder(folder)
        names = _speakers(audio, speakers)
        wanted = frozenset(sentences) if sentences is not None else None
        records = [r for n in names for r in _records(audio / n, folder / "txt" / n, part, wanted, microphone)]
        silent = [name for name in names if name not in {record.speaker for record in records}]
        if silent and (speakers is not None or not records):
            which = f"{part!r}" if sentences is None else f"{part!r} among sentences {sentences}"
            raise DataError(f"VCTK: {audio} has no recordings of {which} by microphone {microphone} of {silent[:10]}")
        untold = [record.utterance_id for record in records if record.text is None]
        if untold:
            log.warning("VCTK %s: %d recordings have no transcript (first: %s)", part, len(untold), untold[0])
        self.trim_db, self.trim_margin = trim_db, trim_margin
        if trim_db is not None:
            reading = f"trimmed {trim_db:g} dB {trim_margin:g} s"
            records = [replace(record, extra={"reading": reading}) for record in records]
        super().__init__(with_durations(folder, records), name=f"VCTK {part}")
        self.shortens = trim_db is not None

    def read(self, record: Record) -> tuple[Tensor, int]:
        """The audio of one record, without silence at its ends where that was asked for."""
        waveform, rate = super().read(record)
        if self.trim_db is None:
            return waveform, rate
        start, end = speech_bounds(waveform, rate, self.trim_db, self.trim_margin)
        return waveform[start:end], rate


def _audio_folder(root: Path) -> Path:
    for name in _FOLDERS:
        if (root / name).is_dir():
            return root / name
    raise DataError(
        f"VCTK: expected the folder {root / _FOLDERS[0]}, which does not exist; "
        "get the corpus from https://datashare.ed.ac.uk/handle/10283/3443, or correct root"
    )


def _speakers(audio: Path, wanted: list[str] | None) -> list[str]:
    found = sorted(path.name for path in audio.iterdir() if path.is_dir() and not path.name.startswith("."))
    if wanted is None:
        return found
    unknown = [name for name in wanted if name not in found]
    faults = [f"speakers: VCTK has no {name!r} in {audio}. {suggest(name, found)}" for name in unknown]
    if faults:
        raise ConfigError("\n".join(faults))
    return list(dict.fromkeys(wanted))


def _records(audio: Path, texts: Path, part: str, sentences: frozenset[int] | None, microphone: int) -> list[Record]:
    """Of one speaker, by the number of the sentence; of one sentence in several formats the first of `EXTENSIONS`."""
    found: dict[str, tuple[int, Path]] = {}
    files = [path for path in audio.iterdir() if path.suffix.lower() in EXTENSIONS]
    for file in sorted(files, key=lambda path: EXTENSIONS.index(path.suffix.lower())):
        match = _NAME.fullmatch(file.stem)
        if match is None or int(match["microphone"] or 1) != microphone:
            continue
        number = int(match["number"])
        if sentences is not None and number not in sentences:
            continue
        if part in ("all", _HELD_OUT.get(number % _PERIOD, "train")):
            found.setdefault(match["sentence"], (number, file))
    ordered = sorted(found.items(), key=lambda item: item[1][0])
    return [Record(name, str(file), 0.0, _text(texts, name), audio.name) for name, (_, file) in ordered]


def _text(folder: Path, name: str) -> str | None:
    file = folder / f"{name}.txt"
    return read_transcript(file) if file.exists() else None

"""Anybody's recordings: a folder of audio files, with or without transcripts."""

import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from hw_base.audio.io import EXTENSIONS
from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.datasets.names import ids_from_paths
from hw_base.datasets.parts import Part, Share, SplitBy, choose_part
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS
from hw_base.texts.files import TRANSCRIPT_EXTENSIONS, read_lines, read_transcript

log = logging.getLogger(__name__)

_CHAPTER = ".trans.txt"  # as in LibriSpeech: <id> <text> in each line
# LibriTTS has both of each recording.
_NORMALIZED, _ORIGINAL = ".normalized", ".original"


@DATASETS.register()
class CustomDir(BaseDataset):
    """``<root>/audio/<id>.{wav,flac,mp3,opus,...}`` and, optionally, ``<root>/transcriptions/<id>.txt`` (or ``.lab``).

    Folders within are read too: the first one is the speaker, as in ``audio/<speaker>/<id>.wav``, and transcripts lie
    in folders of the same names, or in none. A root without ``audio`` is itself the folder of the recordings, with
    transcripts beside them: ``<id>.txt``, ``<id>.lab``, or LibriSpeech's ``*.trans.txt``. A root that is a file is one
    recording.

    A recording without a transcript has the text None. Hidden files are not looked at; what else is left out is counted
    and named. An id is the file's name, with its folders where that is not unique.

    Args:
        root: holds both folders; None where ``audio_dir`` says where the audio is.
        audio_dir: instead of ``<root>/audio``.
        transcription_dir: instead of ``<root>/transcriptions``; must exist if it is given.
        part: a fixed part of the folder, see `hw_base.datasets.parts.choose_part`; ``all`` is everything.
        split_by: ``speaker`` gives each speaker to one part, ``utterance`` divides the files of all of them.
        share: of the speakers or files in ``val``, and as many in ``test``.

    Raises:
        ConfigError: neither ``root`` nor ``audio_dir`` is given.
        DataError: a folder is missing or without audio, two files share an id, a transcript is not UTF-8 text, or the
            recordings cannot be divided.
    """

    def __init__(
        self,
        root: PathText | None = None,
        audio_dir: PathText | None = None,
        transcription_dir: PathText | None = None,
        part: Part = "all",
        split_by: SplitBy = "utterance",
        share: Share = 0.1,
    ) -> None:
        audio_folder, text_folder, files = _places(root, audio_dir, transcription_dir)
        found = [file for file in files if file.suffix.lower() in EXTENSIONS]
        beside = text_folder == audio_folder
        _report_left_out(
            audio_folder,
            [f for f in files if f.suffix.lower() not in EXTENSIONS and not (beside and _is_transcript(f))],
        )
        if not found:
            raise DataError(f"CustomDir: {audio_folder} has no audio files (looked for {', '.join(EXTENSIONS)})")
        places = [file.relative_to(audio_folder) for file in found]
        _refuse_two_formats(audio_folder, places)
        texts = _Texts(text_folder, files if beside or text_folder is None else _files(text_folder))
        names = ids_from_paths([str(place) for place in places], audio_folder, whole=False)
        records = [
            Record(name, str(file), 0.0, texts.of(place), speaker=place.parts[0] if len(place.parts) > 1 else "")
            for name, file, place in zip(names, found, places, strict=True)
        ]
        texts.report_strays()
        records = choose_part(records, part, split_by, share, f"CustomDir {root or audio_folder}", audio_folder)
        super().__init__(with_durations(audio_folder, records), name=f"CustomDir {root or audio_folder}")


def _places(
    root: str | None, audio_dir: str | None, transcription_dir: str | None
) -> tuple[Path, Path | None, list[Path]]:
    """The folder of the audio, that of the transcripts (None where there is none), and the files of the first."""
    if audio_dir is None and root is None:
        raise ConfigError("CustomDir: give root (the folder that holds 'audio') or audio_dir")
    top = Path(audio_dir or root or "")
    if audio_dir is None and top.is_file():
        beside = [top.with_suffix(extension) for extension in TRANSCRIPT_EXTENSIONS]
        return top.parent, top.parent, [top, *(file for file in beside if file.is_file())]
    inner = audio_dir is None and (top / "audio").is_dir()
    audio_folder = top / "audio" if inner else top
    if not audio_folder.is_dir():
        raise DataError(
            f"CustomDir: expected the folder {audio_folder} with audio files, which does not exist"
            + ("" if audio_dir is not None or top.exists() else "; correct root")
        )
    text_folder: Path | None = None
    if transcription_dir is not None:
        text_folder = Path(transcription_dir)
        if not text_folder.is_dir():
            raise DataError(f"CustomDir: expected the folder {text_folder} with transcripts, which does not exist")
    elif root is not None and (Path(root) / "transcriptions").is_dir():
        text_folder = Path(root) / "transcriptions"
    elif audio_dir is None and not inner:
        text_folder = audio_folder
    return audio_folder, text_folder, _files(audio_folder)


def _files(folder: Path) -> list[Path]:
    """All files below a folder, in an order that depends on their names alone; hidden ones are not looked at."""
    files = []
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [Path(path) / name for name in names if not name.startswith(".")]
        # A folder or a broken link with the name of a recording is reported as a recording that cannot be read.
        files += [Path(path) / name for name in folders if Path(name).suffix.lower() in EXTENSIONS]
    return sorted(files)


def _is_transcript(file: Path) -> bool:
    return file.suffix.lower() in TRANSCRIPT_EXTENSIONS


def _report_left_out(folder: Path, files: list[Path]) -> None:
    """Count what is neither audio that can be read nor a transcript, by its extension."""
    if not files:
        return
    counts = Counter(file.suffix.lower() or "without extension" for file in files)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), key=lambda pair: -pair[1])[:8])
    log.warning(
        "%s: %d files are left out: %s (first: %s); of audio the formats %s are read, others must be converted",
        *(folder, len(files), kinds, files[0].relative_to(folder), ", ".join(EXTENSIONS)),
    )


def _refuse_two_formats(folder: Path, places: list[Path]) -> None:
    seen: dict[Path, Path] = {}
    for place in places:
        other = seen.setdefault(place.with_suffix(""), place)
        if other is not place:
            names = f"{folder / other} and {place.name}"
            raise DataError(f"CustomDir: utterance {place.stem!r} lies in two files: {names}")


class _Texts:
    """Transcripts by the place of the recording, or by its name alone where they lie in one folder.

    Args:
        folder: of the transcripts, or None.
        files: in it.
    """

    def __init__(self, folder: Path | None, files: list[Path]) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}
        self._lines: dict[str, str] = {}
        self._used: set[str] = set()
        for file in files if folder is not None else ():
            if file.name.endswith(_CHAPTER):
                self._lines.update(_chapter(file))
            elif _is_transcript(file):
                self._add(str(file.relative_to(folder).with_suffix("")), file)  # type: ignore[arg-type]

    def of(self, place: Path) -> str | None:
        """The transcript of the recording at this place below its folder."""
        stem = str(place.with_suffix(""))
        for name in (f"{stem}{_NORMALIZED}", stem, place.stem):
            if name in self._files:
                self._used |= {name, stem}
                return _read(self._files[name], place.stem)
        if place.stem in self._lines:
            self._used.add(place.stem)
        return self._lines.get(place.stem)

    def report_strays(self) -> None:
        """Say which transcripts no recording has asked for."""
        names = [name for name in self._files if not name.endswith((_NORMALIZED, _ORIGINAL))]
        stray = sorted({*names, *self._lines} - self._used)
        if stray:
            log.warning("%s: %d transcripts have no audio file (first: %s)", self.folder, len(stray), stray[0])

    def _add(self, name: str, file: Path) -> None:
        other = self._files.setdefault(name, file)
        if other is not file:
            raise DataError(f"CustomDir: {file.parent} has two transcripts of {name!r}: {other.name} and {file.name}")


def _chapter(file: Path) -> Iterator[tuple[str, str]]:
    for line in read_lines(file):
        name, _, text = line.strip().partition(" ")
        if name:
            yield name, text.strip()


def _read(file: Path, name: str) -> str:
    try:
        return read_transcript(file)
    except DataError as error:
        raise DataError(f"CustomDir: utterance {name!r}: {error}") from None

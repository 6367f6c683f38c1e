"""Anybody's recordings: a folder of audio files, with or without transcripts."""

import logging
from pathlib import Path

from hw_base.audio.io import EXTENSIONS
from hw_base.config.schema import PathText
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.durations import with_durations
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS

log = logging.getLogger(__name__)


@DATASETS.register()
class CustomDir(BaseDataset):
    """``<root>/audio/<id>.{wav,flac,ogg,mp3}`` and, optionally, ``<root>/transcriptions/<id>.txt``.

    A recording without a transcript has the text None. Hidden files are not looked at.

    Args:
        root: holds both folders; None where ``audio_dir`` says where the audio is.
        audio_dir: instead of ``<root>/audio``.
        transcription_dir: instead of ``<root>/transcriptions``; must exist if it is given.

    Raises:
        ConfigError: neither ``root`` nor ``audio_dir`` is given.
        DataError: a folder is missing or without audio, two files share an id, or a transcript is not UTF-8 text.
    """

    def __init__(
        self,
        root: PathText | None = None,
        audio_dir: PathText | None = None,
        transcription_dir: PathText | None = None,
    ) -> None:
        audio_folder, text_folder = _folders(root, audio_dir, transcription_dir)
        files = _audio_files(audio_folder)
        texts = {} if text_folder is None else _texts(text_folder)
        records = [Record(name, str(file), 0.0, texts.get(name)) for name, file in files.items()]
        stray = sorted(texts.keys() - files.keys())
        if stray:
            log.warning("%s: %d transcripts have no audio file (first: %s)", text_folder, len(stray), stray[0])
        super().__init__(with_durations(audio_folder, records), name=f"CustomDir {root or audio_folder}")


def _folders(root: str | None, audio_dir: str | None, transcription_dir: str | None) -> tuple[Path, Path | None]:
    if audio_dir is not None:
        audio_folder = Path(audio_dir)
    elif root is not None:
        audio_folder = Path(root) / "audio"
    else:
        raise ConfigError("CustomDir: give root (the folder that holds 'audio') or audio_dir")
    if transcription_dir is not None:
        text_folder = Path(transcription_dir)
        if not text_folder.is_dir():
            raise DataError(f"CustomDir: expected the folder {text_folder} with transcripts, which does not exist")
        return audio_folder, text_folder
    beside = None if root is None else Path(root) / "transcriptions"
    return audio_folder, beside if beside is not None and beside.is_dir() else None


def _audio_files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError(f"CustomDir: expected the folder {folder} with audio files, which does not exist")
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in EXTENSIONS or file.name.startswith("."):
            continue
        other = files.setdefault(file.stem, file)
        if other is not file:
            raise DataError(f"CustomDir: utterance {file.stem!r} lies in two files: {other} and {file.name}")
    if not files:
        raise DataError(f"CustomDir: {folder} has no audio files (looked for {', '.join(EXTENSIONS)})")
    return files


def _texts(folder: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for file in sorted(folder.glob("*.txt")):
        if file.name.startswith("."):
            continue
        try:
            # Some editors begin the file with a byte order mark.
            texts[file.stem] = " ".join(file.read_text(encoding="utf-8-sig").split())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"CustomDir: utterance {file.stem!r}: {file} cannot be read as UTF-8: {error}") from error
    return texts

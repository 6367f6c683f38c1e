"""The hidden data: ``audio/<id>.*`` and ``transcriptions/<id>.txt``, in one folder or in one folder for each set."""

import hashlib
from pathlib import Path
from typing import Literal

from hw_base.audio.io import EXTENSIONS
from hw_base.errors import ConfigError, DataError
from hw_base.grading.contract import Item


def read(folder: Path, references: Path | None, given: Literal["audio", "text"]) -> list[Item]:
    """The utterances, sorted by id.

    Args:
        folder: holds ``audio`` and ``transcriptions``, and perhaps ``canaries`` with altered references; or folders
            that do, each a set.
        references: what predictions are compared with, where it lies elsewhere: ``<id>.txt`` for recognition,
            recordings for synthesis.
        given: what a submission is given.

    Raises:
        ConfigError: a folder is missing.
        DataError: no utterances, an utterance without its reference, or an id in two sets.
    """
    if not folder.is_dir():
        raise ConfigError(f"--data {folder}: no such folder")
    sets = {"": folder} if (folder / "audio").is_dir() or (folder / "transcriptions").is_dir() else _sets(folder)
    items: dict[str, Item] = {}
    for name, place in sets.items():
        for item in _read_set(name, place, references, given):
            if item.id in items:
                raise DataError(f"{folder}: the utterance {item.id!r} is in two sets; ids must differ")
            items[item.id] = item
    if not items:
        raise DataError(f"{folder}: no utterances; expected audio/<id>.wav and transcriptions/<id>.txt")
    return [items[key] for key in sorted(items)]


def digest(items: list[Item]) -> dict[str, str]:
    """SHA-256 of the recordings and of the texts."""
    audio, texts = hashlib.sha256(), hashlib.sha256()
    for item in items:
        head = f"{item.set}/{item.id}\0".encode()
        audio.update(head + (item.audio.read_bytes() if item.audio else b""))
        texts.update(head + f"{item.text}\0{item.altered}\0".encode())
    return {"audio_sha256": audio.hexdigest(), "texts_sha256": texts.hexdigest()}


def _sets(folder: Path) -> dict[str, Path]:
    found = {p.name: p for p in sorted(folder.iterdir()) if (p / "audio").is_dir() or (p / "transcriptions").is_dir()}
    if not found:
        raise ConfigError(f"--data {folder}: neither it nor a folder in it has audio/ and transcriptions/")
    return found


def _read_set(name: str, folder: Path, references: Path | None, given: str) -> list[Item]:
    text_folder = references if references is not None and given == "audio" else folder / "transcriptions"
    audio_folder = references if references is not None and given == "text" else folder / "audio"
    texts, altered = _texts(text_folder), _texts(folder / "canaries")
    audio = _audio(audio_folder)
    ids = audio.keys() if given == "audio" else texts.keys()
    items = [Item(i, name, texts.get(i), audio.get(i), altered.get(i)) for i in ids]
    for item in items:
        if item.text is None or item.audio is None:
            where, what = (text_folder, "transcript") if item.text is None else (audio_folder, "recording")
            raise DataError(f"{where}: the utterance {item.id!r} has no {what} there")
    return items


def _texts(folder: Path) -> dict[str, str]:
    try:
        files = sorted(folder.glob("*.txt")) if folder.is_dir() else []
        return {f.stem: " ".join(f.read_text(encoding="utf-8-sig").split()) for f in files if f.name[0] != "."}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{folder}: cannot be read: {error}") from None


def _audio(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in EXTENSIONS and path.name[0] != ".":
            if path.stem in found:
                raise DataError(f"{folder}: the utterance {path.stem!r} lies in two files")
            found[path.stem] = path
    return found

"""Text files as people have them: one reader for every list, transcript and word list."""

import codecs
import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from hw_base.errors import DataError

# What the extension of one utterance's transcript may be; ``.lab`` is what forced aligners call theirs.
TRANSCRIPT_EXTENSIONS = (".txt", ".lab")

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Line ends only: `str.splitlines` also cuts at form feeds, U+0085, U+2028 and others, which stand within sentences.
_LINE_END = re.compile(r"\r\n|\n|\r")


def read_text(path: str | os.PathLike[str], errors: Literal["strict", "replace"] = "strict") -> str:
    """The content of a text file, without its byte order mark.

    Args:
        path: UTF-8, or UTF-16 that begins with a byte order mark.
        errors: ``replace`` reads what is of another encoding with U+FFFD in its place.

    Raises:
        DataError: it cannot be opened, is of another encoding, or is no text; the message names the line.
    """
    try:
        raw = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path}: cannot be read: {reason}") from None
    mark, encoding = next(((m, e) for m, e in _BYTE_ORDER_MARKS if raw.startswith(m)), (b"", "utf-8"))
    raw = raw[len(mark) :]
    try:
        text = raw.decode(encoding, errors)
    except UnicodeDecodeError as error:
        line = len(_LINE_END.findall(raw[: error.start].decode(encoding, "replace"))) + 1
        name = "UTF-8" if encoding == "utf-8" else "UTF-16"
        raise DataError(
            f"{path}, line {line}: cannot be read as {name} ({error.reason} at byte {error.start + len(mark)}); "
            "save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = len(_LINE_END.findall(text[: text.index("\0")])) + 1
        raise DataError(f"{path}, line {line}: a zero byte: this is not a text file in UTF-8")
    return text


def read_lines(path: str | os.PathLike[str], errors: Literal["strict", "replace"] = "strict") -> list[str]:
    """The lines of a text file without their ends, as `read_text` reads it; the i-th is line i + 1.

    Only line feed, carriage return and the two together end a line.
    """
    lines = _LINE_END.split(read_text(path, errors))
    return lines[:-1] if lines[-1] == "" else lines


def from_json(text: str | bytes) -> Any:
    """What JSON says; unlike `json.loads` it raises nothing but ValueError, also where lists hold lists without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """What a JSON file says, its text as `read_text` reads it.

    Raises:
        DataError: it cannot be read, or is no JSON; the message names the file.
    """
    text = read_text(path)
    try:
        return from_json(text)
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def read_transcript(path: str | os.PathLike[str]) -> str:
    """What is said in one recording: the whole file as one line."""
    return " ".join(read_text(path).split())


def transcript_files(folder: Path) -> dict[str, Path]:
    """The transcripts in a folder, by the name without extension.

    Raises:
        DataError: one utterance has two.
    """
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in TRANSCRIPT_EXTENSIONS or file.name.startswith(".") or not file.is_file():
            continue
        other = files.setdefault(file.stem, file)
        if other is not file:
            raise DataError(
                f"{folder}: two files for the utterance {file.stem!r}: {other.name} and {file.name}; keep one"
            )
    return files

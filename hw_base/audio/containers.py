"""What containers say of their own length, where the decoder believes the file's end instead."""

import io
import os
import struct
from typing import IO

# Sizes from here on are what programs write that cannot seek back to fill them in: all that follows is audio.
_STREAMED = 0x7FFF0000
# Pages of Ogg have at most this many bytes.
_LONGEST_PAGE = 65_307
_LAST_PAGE = 0x04  # header type "end of stream", RFC 3533, section 6


def truncation(path: str | os.PathLike[str], content: bytes | None = None) -> str | None:
    """Why a WAV or Ogg file is not whole; None where it is, or where it is neither.

    Args:
        path: of the file.
        content: the file itself, where it lies within another one.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") if content is None else io.BytesIO(content) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            return _wav(file, size)
        if head[:4] == b"OggS":
            return _ogg(file, size)
    return None


def _wav(file: IO[bytes], size: int) -> str | None:
    """Walk over the chunks (Microsoft and IBM, "Multimedia Programming Interface", 1991)."""
    bytes_a_second = 0
    while len(header := file.read(8)) == 8:
        name, declared = header[:4], struct.unpack("<I", header[4:])[0]
        start = file.tell()
        if name == b"fmt ":
            content = file.read(min(declared, 16))
            bytes_a_second = struct.unpack("<I", content[8:12])[0] if len(content) >= 12 else 0
        if name == b"data":
            return _data_chunk(file, declared, size - start, bytes_a_second)
        file.seek(start + declared + declared % 2)
    return None  # without data, which the decoder says itself


def _data_chunk(file: IO[bytes], declared: int, left: int, bytes_a_second: int) -> str | None:
    if declared >= _STREAMED:
        return None
    if declared > left:
        return f"{_amount(left, bytes_a_second)} of audio where its header says {_amount(declared, bytes_a_second)}"
    rest = left - declared
    # A second of what is no chunk is audio that the header leaves out; a few bytes are tolerated.
    if declared and bytes_a_second and rest >= bytes_a_second:
        file.seek(declared + declared % 2, os.SEEK_CUR)
        name = file.read(4)
        if not (len(name) == 4 and name.isascii() and name.decode("ascii").isprintable()):
            found = _amount(left, bytes_a_second)
            return f"its header says {_amount(declared, bytes_a_second)}, but {found} of audio follow"
    return None


def _ogg(file: IO[bytes], size: int) -> str | None:
    """The last page of a stream is marked as such (RFC 3533)."""
    file.seek(max(0, size - 2 * _LONGEST_PAGE))
    end = file.read()
    place = end.rfind(b"OggS")
    if place < 0 or len(end) < place + 6 or not end[place + 5] & _LAST_PAGE:
        return "the end of the stream is missing"
    return None


def _amount(n_bytes: int, bytes_a_second: int) -> str:
    return f"{n_bytes / bytes_a_second:.2f} s" if bytes_a_second else f"{n_bytes} bytes"

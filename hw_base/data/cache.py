"""What a split has read and computed, kept in memory or in a file, where all its worker processes find it."""

import errno
import hashlib
import json
import logging
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from hw_base.data.dataset import Record
from hw_base.errors import DataError
from hw_base.files.disk_space import free_memory, free_on_disk, mib
from hw_base.storage import cache_folder

log = logging.getLogger(__name__)

Mode = Literal["memory", "disk"]

# Raise it when anything changes that the numbers depend on and that no argument says: files have it in their names.
VERSION = 1

# Of a slot: CRC-32 of what follows, kind, rows, columns; of an empty one all are 0.
_HEADER = struct.Struct("<IIII")
_KINDS = {1: torch.int16, 2: torch.float32}
# Bytes that a slot has beyond the duration in a header, which may be off by rounding.
_SLACK = 1024
_INT16 = 2.0**-15


@dataclass
class Room:
    """What all splits of a run may take together: half of what is free when the run begins.

    Attributes:
        processes: how many of this machine keep their own memory.
    """

    processes: int = 1
    _left: dict[str, int] = field(default_factory=dict)

    def left(self, mode: Mode) -> int:
        """Bytes."""
        if mode not in self._left:
            free = free_memory() // self.processes if mode == "memory" else free_on_disk(_folder())
            self._left[mode] = free // 2
        return self._left[mode]

    def take(self, mode: Mode, size: int) -> None:
        """Reserve bytes."""
        self._left[mode] = self.left(mode) - size


class Cache:
    """Slots of known sizes in one file, of memory without a name or on disk; each is filled when first asked for.

    Workers that are forked inherit the open file: what one has written all others read. A process that is started anew
    (``spawn``) has no part in it. A slot carries a checksum, so that one which is being written, or was not written to
    its end, counts as empty. All numbers come back bit by bit.

    Args:
        name: of the split, for messages.
        sizes: bytes, (K, N): of the audio of each of N utterances, then of whatever is kept beside it.
        mode: where the slots lie.
        room: how much may be used; what does not fit is not kept, audio comes first.
        key: of the file on disk; what the numbers depend on.

    Attributes:
        kept (list[int]): utterances with a slot, of each of the K.
        size (int): bytes of all slots.

    Raises:
        DataError: there can be no file.
    """

    def __init__(self, name: str, sizes: Tensor, mode: Mode, room: Room, key: str = "") -> None:
        self.name, self._writable = name, True
        try:
            self._file = _memory() if mode == "memory" else _on_disk(key)
        except OSError as error:
            where = mode if mode == "memory" else f"{mode}: {_folder()}"
            raise DataError(f"data.{name}.cache: {where}: {error.strerror}; set it to none") from error
        slots = sizes.long() + (_HEADER.size + _SLACK)
        ends = slots.flatten().cumsum(0).view_as(slots)
        # What a file on disk holds already needs no room.
        held = os.fstat(self._file).st_blocks * 512
        fits = ends <= room.left(mode) + held
        self.kept: list[int] = fits.sum(dim=1).tolist()
        self.size = int(ends[fits][-1]) if bool(fits.any()) else 0
        self._sizes, self._offsets = slots.numpy(), (ends - slots).numpy()
        room.take(mode, max(0, self.size - held))

    def _slot(self, place: int, number: int) -> tuple[int, int]:
        """Offset and size; a size of 0 where there is no slot."""
        if self._file < 0 or number >= len(self.kept) or place >= self.kept[number]:
            return 0, 0
        return int(self._offsets[number, place]), int(self._sizes[number, place])

    def get(self, place: int, number: int) -> Tensor | None:
        """What was put there: a tensor of its own, or None."""
        offset, size = self._slot(place, number)
        if not size:
            return None
        content = bytearray(size)
        os.preadv(self._file, [content], offset)
        checksum, kind, rows, columns = _HEADER.unpack_from(content)
        if kind not in _KINDS:
            return None
        dtype, count = _KINDS[kind], max(rows, 1) * columns
        end = _HEADER.size + count * dtype.itemsize
        if end > size or zlib.crc32(memoryview(content)[4:end]) != checksum:
            return None
        found = torch.frombuffer(content, dtype=dtype, count=count, offset=_HEADER.size)
        return found.view(rows, columns) if rows else found

    def put(self, place: int, number: int, value: Tensor) -> None:
        """Keep a tensor (N,) or (R, N), int16 or float32, if it fits into its slot.

        Args:
            place: of the utterance.
            number: 0 is its audio.
            value: on the CPU.
        """
        offset, size = self._slot(place, number)
        if not self._writable or not value.numel() or _HEADER.size + value.nbytes > size:
            return
        kind = next(kind for kind, dtype in _KINDS.items() if dtype == value.dtype)
        content = value.contiguous().numpy().tobytes()
        header = struct.pack("<III", kind, value.shape[0] if value.dim() > 1 else 0, value.shape[-1])
        checksum = struct.pack("<I", zlib.crc32(content, zlib.crc32(header)))
        try:
            os.pwritev(self._file, [checksum + header, content], offset)
        except OSError as error:
            self._writable = False
            log.warning("data.%s.cache: nothing more can be kept (%s)", self.name, error.strerror)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_file": -1}

    def __del__(self) -> None:
        if self.__dict__.get("_file", -1) >= 0:
            os.close(self._file)


class Reading:
    """The audio of one utterance, for an item maker that may do without: read when it is called.

    Args:
        read: gives the waveform (S,), float32; its `DataError` makes the utterance bad.
        cache: of the split, if it has one.
        place: of the utterance in the cache.
    """

    def __init__(self, read: Callable[[], Tensor], cache: Cache | None, place: int) -> None:
        self._read, self._cache, self._place = read, cache, place

    def __call__(self) -> Tensor:
        """The waveform."""
        return self._read()

    def kept(self, number: int, make: Callable[[], Tensor]) -> Tensor:
        """What was made of this audio before, or is made now and kept, where the split keeps such.

        Args:
            number: which of the item maker's `sizes_kept`, from 0.
            make: gives the tensor (R, N), float32, which depends on the audio alone.
        """
        found = self._cache.get(self._place, number + 1) if self._cache is not None else None
        if found is None:
            found = make()
            if self._cache is not None:
                self._cache.put(self._place, number + 1, found)
        return found


class LazyItemMaker:
    """An item maker that may do without the audio: it is given a function that reads the waveform, not the waveform."""

    def __call__(self, record: Record, read: Reading, generator: torch.Generator) -> dict[str, Any]:
        """One item.

        Args:
            record: of the utterance.
            read: gives the waveform (S,), float32, at the split's rate; its `DataError` makes the utterance bad.
            generator: of everything random in this item.
        """
        raise NotImplementedError

    def sizes_kept(self, n_samples: Tensor) -> Tensor:
        """What it makes of the audio alone, so that a split may keep it: bytes (K, N), for N numbers of samples."""
        return n_samples.new_zeros(0, len(n_samples))

    def kept_depends_on(self) -> Any:
        """What those numbers depend on besides the audio, as plain values."""
        return None


def waveform_kept(cache: Cache, place: int, read: Callable[[], Tensor]) -> Tensor:
    """Audio from the cache, or read and kept: as int16 where that is exact, as it is in files of 16 bits.

    Args:
        cache: of the split.
        place: of the utterance.
        read: gives the waveform (S,), float32.
    """
    found = cache.get(place, 0)
    if found is None:
        waveform = read()
        cache.put(place, 0, as_int16(waveform))
        return waveform
    return found if found.dtype == torch.float32 else found.float().mul_(_INT16)


def as_int16(waveform: Tensor) -> Tensor:
    """The samples as int16 if all of them are whole numbers of 1 / 32768, else as they are."""
    whole = (waveform / _INT16).clamp(-32768, 32767).to(torch.int16)
    return whole if torch.equal(whole.float() * _INT16, waveform) else waveform


def key_of(records: Iterable[Record], depends_on: object) -> str:
    """A digest of the audio files, by path, size and modification time, and of all that the numbers depend on.

    Args:
        records: in their order; a missing file is the loader's to report.
        depends_on: what else, as plain values.
    """
    digest = hashlib.sha256(json.dumps([VERSION, torch.__version__, depends_on], sort_keys=True).encode())
    digest.update(torch.backends.cpu.get_cpu_capability().encode())  # other instructions round otherwise
    for record in records:
        try:
            status = os.stat(record.audio_path)
            state = [status.st_size, status.st_mtime_ns]
        except (OSError, ValueError):
            state = []
        what = [os.path.abspath(record.audio_path), record.offset, record.duration, record.extra.get("reading"), state]
        digest.update(json.dumps(what).encode())
    return digest.hexdigest()[:32]


def describe(cache: Cache, n: int, mode: Mode) -> str:
    """What of a split is kept, in one line."""
    parts = [f"audio of {_of(cache.kept[0], n)} utterances"]
    others = cache.kept[1:]
    if others:
        parts.append(f"{_of(sum(others), n * len(others))} spectrograms")
    where = "in memory" if mode == "memory" else f"in {_folder()}"
    complete = all(count == n for count in cache.kept)
    limit = "" if complete else f"; half of what is free {'in memory' if mode == 'memory' else 'there'}, not all of it"
    return f"{cache.name}: keeps {where} what it has read: {' and '.join(parts)}, up to {mib(cache.size)}{limit}"


def _of(count: int, total: int) -> str:
    return str(total) if count == total else f"{count} of {total}"


def _folder() -> Path:
    return cache_folder() / "audio"


def _memory() -> int:
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "this system has no files in memory")
    return os.memfd_create("hw_speech_cache")


def _on_disk(key: str) -> int:
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / f"{key}.bin", os.O_RDWR | os.O_CREAT, 0o644)

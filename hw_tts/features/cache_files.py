"""Files of the feature cache: one entry for each utterance, and the digests of audio files."""

import hashlib
import json
import logging
import os
import struct
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DataError
from hw_base.storage import replacing

log = logging.getLogger(__name__)

_MAGIC = b"HWFEAT1\n"
# Magic, F, T, CRC-32 of what follows: spectrogram (F, T), pitch (T,), energy (T,) as float32, voiced (T,) as bytes.
_HEADER = struct.Struct("<8sIII")
# A file changed so shortly before it was read may change again within the same tick of its file system's clock.
_RACY_NS = 2_000_000_000


class CannotWriteError(DataError):
    """The cache's folder does not take files."""


def write_entry(path: Path, entry: dict[str, Tensor]) -> None:
    """Write one entry under a temporary name, then rename it.

    Raises:
        CannotWriteError: the disk refuses.
    """
    numbers = torch.cat([entry["spectrogram"].flatten(), entry["pitch"], entry["energy"]]).to(torch.float32)
    content = numbers.cpu().numpy().astype("<f4").tobytes() + entry["voiced"].cpu().to(torch.uint8).numpy().tobytes()
    n_bins, n_frames = entry["spectrogram"].shape
    _replace(path, _HEADER.pack(_MAGIC, n_bins, n_frames, zlib.crc32(content)) + content)


def read_entry(path: Path) -> dict[str, Tensor] | None:
    """One entry; None where there is none or where it is damaged."""
    try:
        content = bytearray(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("%s: unreadable, computed again (%s)", path, error.strerror)
        return None
    if len(content) >= _HEADER.size:
        magic, n_bins, n_frames, checksum = _HEADER.unpack_from(content)
        body = memoryview(content)[_HEADER.size :]
        expected = 4 * (n_bins + 2) * n_frames + n_frames
        if magic == _MAGIC and n_frames and len(body) == expected and zlib.crc32(body) == checksum:
            return _unpacked(content, n_bins, n_frames)
    log.warning("%s: damaged, computed again", path)
    return None


def _unpacked(content: bytearray, n_bins: int, n_frames: int) -> dict[str, Tensor]:
    count = (n_bins + 2) * n_frames
    numbers = torch.frombuffer(content, dtype=torch.float32, count=count, offset=_HEADER.size)
    spectrogram, pitch, energy = torch.split(numbers, [n_bins * n_frames, n_frames, n_frames])
    voiced = torch.frombuffer(content, dtype=torch.bool, count=n_frames, offset=_HEADER.size + 4 * count)
    return {"spectrogram": spectrogram.view(n_bins, n_frames), "pitch": pitch, "energy": energy, "voiced": voiced}


class Digests:
    """SHA-256 of files, remembered by path, size and modification time, also from run to run.

    Args:
        path: of the file that keeps them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, list[Any]] = {}
        self._saved: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def of(self, path: str) -> str:
        """The digest of one file, as hexadecimal digits.

        Raises:
            DataError: the file cannot be read.
        """
        full = os.path.abspath(path)
        try:
            status = os.stat(full)
            known = self._known.get(full)
            if known is not None and known[:2] == [status.st_size, status.st_mtime_ns]:
                return str(known[2])
            now = time.time_ns()
            digest = hashlib.sha256(Path(full).read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if now - status.st_mtime_ns > _RACY_NS:
            with self._lock:
                self._known[full] = [status.st_size, status.st_mtime_ns, digest]
        return digest

    def load(self) -> None:
        """Take over what earlier runs have found; a damaged file costs time and nothing else."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            fresh = {str(path): [int(fact[0]), int(fact[1]), str(fact[2])] for path, fact in found.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, IndexError, AttributeError) as error:
            log.warning("%s: unreadable digests, computed again (%s)", self.path, error)
            return
        with self._lock:
            self._known = fresh | self._known
            self._saved = fresh

    def save(self) -> None:
        """Keep what is new.

        Raises:
            CannotWriteError: the disk refuses.
        """
        with self._lock:
            known = dict(self._known)
        if known != self._saved:
            _replace(self.path, json.dumps(known).encode())
            self._saved = known

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def _replace(path: Path, content: bytes) -> None:
    try:
        with replacing(path, durable=False) as scratch:
            scratch.write_bytes(content)
    except OSError as error:
        raise CannotWriteError(
            f"{path}: cannot be written ({error.strerror}); set XDG_CACHE_HOME to a folder with space"
        ) from error

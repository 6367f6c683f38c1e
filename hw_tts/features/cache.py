"""Features of utterances, computed once and kept outside the user's folders, named after all that they depend on."""

import hashlib
import importlib.metadata
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch
import torch.utils.data
from torch import Tensor

from hw_base import distributed
from hw_base.data.dataset import Record
from hw_base.data.split import Split
from hw_base.errors import DataError
from hw_base.storage import cache_folder
from hw_base.training.progress import Progress
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.features.cache_files import CannotWriteError, Digests, read_entry, write_entry

log = logging.getLogger(__name__)

# Raise it when anything changes that the numbers depend on and that no argument says: entries have it in their names.
VERSION = 1


class FeatureCache:
    """Features by the content of the audio, on disk and, as far as they fit, in memory.

    An entry is found by the SHA-256 of the audio file, by every argument of the features, the tracker's version and
    `VERSION`: a changed file or argument is another entry, a copy under another name is the same one. Digests are
    remembered by path, size and modification time. Entries are written under a temporary name first and carry a
    checksum; a damaged one is made again. Several processes may use one folder at once.

    The numbers are kept as float32: float16 would be off by up to 4e-3 in the logarithm where speech is quiet.

    Args:
        folder: where entries are kept; None is ``features`` in the user's cache folder.
        features: what is computed.
        max_memory: bytes of entries also kept in memory, the first ones.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, features: TTSFeatures, max_memory: int = 1 << 30) -> None:
        self.features, self.max_memory = features, max_memory
        self.root = Path(folder) if folder is not None else cache_folder() / "features"
        self.folder = self.root / _digest(parameters(features))[:16]
        self._digests = Digests(self.root / "digests.json")
        self._memory: dict[str, dict[str, Tensor]] = {}
        self._memory_bytes = 0
        self._lock = threading.Lock()

    def get(self, record: Record, read: Callable[[], Tensor] | None, key_extra: str = "") -> dict[str, Tensor]:
        """Features of one utterance: from memory, from disk, or computed and kept.

        Args:
            record: ``audio_path`` says which file's content counts.
            read: gives the waveform (S,) at the features' rate; None if the entry must be there.
            key_extra: what the waveform depends on besides the file's content and the rate, for example a trimming.

        Returns:
            dict: as `TTSFeatures.all_of`; the caller may change the tensors.

        Raises:
            DataError: the file cannot be read, is too short, or there is no entry and no way to make one.
        """
        key = self._key(record, key_extra)
        entry = self._find(key)
        if entry is None:
            if read is None:
                raise DataError(
                    f"utterance {record.utterance_id!r} ({record.audio_path}): no features in {self.folder}"
                )
            try:
                entry = self.features.all_of(read())
            except DataError as error:
                named = record.utterance_id in str(error)
                raise error if named else DataError(f"utterance {record.utterance_id!r}: {error}") from error
            write_entry(self._path(key), entry)
            self._remember(key, entry)
        return {name: value.clone() for name, value in entry.items()}

    def fill(self, split: Split, n_threads: int | None = None, key_extra: str = "") -> dict[str, str]:
        """Make every missing entry of a split, in parallel; what an interrupted call has made is kept.

        Threads do it, not processes: pitch trackers, transforms and decoders all release the interpreter's lock.
        Processes of a distributed run share the work.

        Args:
            split: its ``waveform(index)`` gives the audio.
            n_threads: None is one for each core.
            key_extra: as for `get`.

        Returns:
            dict: utterance id -> why it has no features, for `Split.leave_out`.

        Raises:
            DataError: the folder cannot be written.
        """
        self._digests.load()
        reasons: dict[str, str] = {}
        rank, world = distributed.rank(), distributed.world_size()
        # A share for each process; then, on machines that do not see each other's folders, what is still missing.
        for first, step in ((rank, world), (0, 1))[: 1 if world == 1 else 2]:
            missing = self._missing(split, key_extra, reasons)[first::step]
            if missing:
                self._make(split, missing, n_threads or distributed.n_cores(), key_extra, reasons)
            for found in distributed.gather(reasons):
                reasons.update(found)
        self._digests.save()
        return reasons

    def __getstate__(self) -> dict[str, Any]:
        """Without what is in memory: another process reads it from disk."""
        return {**self.__dict__, "_memory": {}, "_memory_bytes": 0, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _missing(self, split: Split, key_extra: str, reasons: dict[str, str]) -> list[int]:
        """Indices without a sound entry; sound ones are in memory afterwards, as far as they fit."""
        missing = []
        for i, record in enumerate(split.records):
            if record.utterance_id in reasons:
                continue
            try:
                if self._find(self._key(record, key_extra)) is None:
                    missing.append(i)
            except DataError as error:
                reasons[record.utterance_id] = str(error)
        return missing

    def _make(
        self,
        split: Split,
        missing: Sequence[int],
        n_threads: int,
        key_extra: str,
        reasons: dict[str, str],
    ) -> None:
        log.info("%s: features of %d utterances, kept in %s", split.name, len(missing), self.folder)

        def make(i: int) -> None:
            self.get(split.records[i], lambda: split.waveform(i), key_extra)

        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(min(n_threads, len(missing)), initializer=torch.set_num_threads, initargs=(1,))
        try:
            futures = {pool.submit(make, i): split.records[i].utterance_id for i in missing}
            with Progress(0, len(missing)) as bar:
                for future in as_completed(futures):
                    error = future.exception()
                    if isinstance(error, DataError) and not isinstance(error, CannotWriteError):
                        reasons[futures[future]] = str(error)
                    elif error is not None:
                        raise error
                    bar.advance()
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)

    def _key(self, record: Record, key_extra: str) -> str:
        try:
            # How the dataset reads the file, where that is not simply all of it.
            reading = [record.extra["reading"]] if "reading" in record.extra else []
            return _digest([self._digests.of(record.audio_path), key_extra, *reading])
        except DataError as error:
            raise DataError(f"utterance {record.utterance_id!r}: {error}") from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.bin"

    def _find(self, key: str) -> dict[str, Tensor] | None:
        entry = self._memory.get(key)
        if entry is None:
            entry = read_entry(self._path(key))
            if entry is not None:
                self._remember(key, entry)
        return entry

    def _remember(self, key: str, entry: dict[str, Tensor]) -> None:
        # A loader's process would hold a copy of its own; what the main process holds it shares without one.
        if torch.utils.data.get_worker_info() is not None:
            return
        size = sum(value.nbytes for value in entry.values())
        with self._lock:
            if key not in self._memory and self._memory_bytes + size <= self.max_memory:
                self._memory[key] = entry
                self._memory_bytes += size


def parameters(features: TTSFeatures) -> dict[str, Any]:
    """All that features depend on besides the audio."""
    tracker = importlib.metadata.version("pyworld") if features.pitch != "yin" else ""
    limits = [features.pitch_floor, features.pitch_ceiling]
    return {**features.constants(), "pitch": [features.pitch, tracker, *limits], "version": VERSION}


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

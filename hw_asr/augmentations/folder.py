"""A folder of sounds to draw from: noises, impulse responses."""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor

from hw_base.audio import io as audio
from hw_base.errors import ConfigError, DataError

# 20 minutes at 16 kHz are 77 MB in each loader worker.
CACHE_SECONDS = 1200.0


class SoundFolder:
    """All audio files below a folder, read when drawn; those used last stay in memory.

    Args:
        folder: searched with its sub-folders.
        sample_rate: in Hz, what every sound is resampled to.
        owner: named in messages.

    Raises:
        ConfigError: no such folder, or no audio file in it.
    """

    def __init__(self, folder: str, sample_rate: int, owner: str) -> None:
        root = Path(folder)
        if not root.is_dir():
            raise ConfigError(f"{owner}: folder {folder!r} does not exist")
        self.paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in audio.EXTENSIONS)
        if not self.paths:
            raise ConfigError(f"{owner}: no audio file ({', '.join(audio.EXTENSIONS)}) in folder {folder!r}")
        self.sample_rate = sample_rate
        self._owner = owner
        self._cache: OrderedDict[int, Tensor] = OrderedDict()

    def draw(self, generator: torch.Generator) -> Tensor:
        """One of the sounds, (S,), float32; not to be modified.

        Raises:
            DataError: the file cannot be read, is empty or holds NaN.
        """
        index = int(torch.randint(len(self.paths), (), generator=generator))
        if index not in self._cache:
            self._cache[index] = self._load(self.paths[index])
            self._shrink()
        self._cache.move_to_end(index)
        return self._cache[index]

    def _load(self, path: Path) -> Tensor:
        sound, _ = audio.load(path, self.sample_rate)
        if len(sound) == 0 or not bool(torch.isfinite(sound).all()):
            raise DataError(f"{self._owner}: {path}: the file is empty or holds samples that are not finite")
        return sound

    def _shrink(self) -> None:
        budget = CACHE_SECONDS * self.sample_rate
        while len(self._cache) > 1 and sum(map(len, self._cache.values())) > budget:
            self._cache.popitem(last=False)

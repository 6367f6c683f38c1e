"""Audio files: read any rate and channel count as mono float32, resample, write, and ask for a duration."""

import os
import stat
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hw_base.errors import DataError, MissingPackageError

# What folders are searched for, in the order of preference where one utterance lies in several formats.
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3")

# In Hz. Beyond these a header is damaged, and resampling would fill the memory.
_RATES = range(1_000, 1_000_001)
# A filter has as many numbers as the product of both sides of the ratio: 441 is needed for 44.1 kHz to 16 kHz.
_MAX_DENOMINATOR = 1_000


class AudioInfo(NamedTuple):
    """What a file's header says.

    Attributes:
        n_samples: in each channel.
        sample_rate: in Hz.
        n_channels: 1 is mono.
    """

    n_samples: int
    sample_rate: int
    n_channels: int

    @property
    def duration(self) -> float:
        """In seconds."""
        return self.n_samples / self.sample_rate


def load(path: str | os.PathLike[str], sample_rate: int | None = None) -> tuple[Tensor, int]:
    """Read a whole file; several channels become their mean.

    The format is found from the content, never from the extension.

    Args:
        path: wav, flac, ogg, mp3, or whatever else libsndfile reads.
        sample_rate: resample to this rate, in Hz; None keeps the file's own.

    Returns:
        waveform (Tensor): (S,), float32, in [-1, 1] where the file's samples are.
        sample_rate (int): in Hz, of the waveform.

    Raises:
        DataError: missing, unreadable or undecodable.
    """
    soundfile = _soundfile("reading audio")
    try:
        _refuse_no_file(path)
        samples, rate = soundfile.read(os.fspath(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise DataError(_unreadable(path, error)) from error
    if rate not in _RATES:
        raise DataError(f"{path}: cannot be used as audio: its header says {rate} Hz")
    channels = torch.from_numpy(samples)
    waveform = channels[:, 0].contiguous() if channels.shape[1] == 1 else channels.mean(dim=1)
    if sample_rate is None:
        return waveform, int(rate)
    return resample(waveform, int(rate), sample_rate), sample_rate


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Length, rate and channels from the header, without decoding the samples.

    Raises:
        DataError: missing, unreadable or of an unknown format.
    """
    soundfile = _soundfile("reading audio")
    try:
        _refuse_no_file(path)
        header = soundfile.info(os.fspath(path))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(_unreadable(path, error)) from error
    if header.samplerate not in _RATES or header.channels < 1:
        raise DataError(f"{path}: cannot be used as audio: {header.samplerate} Hz, {header.channels} channels")
    return AudioInfo(int(header.frames), int(header.samplerate), int(header.channels))


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling by a windowed sinc; (..., S) -> (..., ceil(S * to_rate / from_rate)).

    The ratio of rates that have next to no common divisor, such as 44 101 Hz and 16 kHz, is met to a millionth.

    Args:
        waveform: float, the last axis is time.
        from_rate: in Hz.
        to_rate: in Hz.
    """
    if from_rate == to_rate or waveform.shape[-1] == 0:
        return waveform
    ratio = Fraction(to_rate, from_rate).limit_denominator(_MAX_DENOMINATOR)
    resampled: Tensor = _resampler(ratio.denominator, ratio.numerator)(waveform)
    return resampled


def save(path: str | os.PathLike[str], waveform: Tensor, sample_rate: int) -> None:
    """Write a mono file, 16-bit where the format has bits; the extension names the format. Samples are clipped.

    Args:
        path: its folder is made if need be.
        waveform: (S,), float, in [-1, 1].
        sample_rate: in Hz.

    Raises:
        DataError: not one channel, not finite, an unknown extension, or the disk refuses.
    """
    soundfile = _soundfile("writing audio")
    samples = waveform.detach().to("cpu", torch.float32)
    if samples.dim() != 1:
        raise DataError(f"{path}: expected one channel of samples, shape (S,), found {tuple(samples.shape)}")
    if not bool(torch.isfinite(samples).all()):
        raise DataError(f"{path}: the samples to write are NaN or infinite")
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(os.fspath(path), samples.clamp(-1.0, 1.0).numpy(), sample_rate)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: cannot be written: {_reason(error)}") from error


@lru_cache(maxsize=16)
def _resampler(from_rate: int, to_rate: int) -> nn.Module:
    # The filter depends on the two rates alone; making it costs more than filtering an utterance with it.
    try:
        from torchaudio.transforms import Resample
    except ImportError as error:
        raise MissingPackageError("resampling audio", "torchaudio") from error
    resampler: nn.Module = Resample(from_rate, to_rate)
    return resampler


def _refuse_no_file(path: str | os.PathLike[str]) -> None:
    # Opening a pipe waits for somebody to write into it, and a device never ends.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError("not a file")


def _soundfile(component: str) -> ModuleType:
    try:
        import soundfile
    except ImportError as error:
        raise MissingPackageError(component, "soundfile") from error
    module: ModuleType = soundfile
    return module


def _unreadable(path: str | os.PathLike[str], error: Exception) -> str:
    """One line that says what the file is rather than what a library thought of it."""
    file = Path(path)
    if not os.path.exists(path):  # unlike that of a Path, it takes any name
        return f"{path}: there is no such audio file"
    if not os.path.isfile(path):
        return f"{path}: expected an audio file, found a folder or a device"
    try:
        with file.open("rb") as stream:
            head = stream.read(256)
    except OSError as problem:
        return f"{path}: cannot be opened: {problem.strerror}"
    if not head:
        return f"{path}: the file is empty (0 bytes)"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{path}: a web page, not audio; download the file again"
    if head.startswith(b"version https://git-lfs"):
        return f"{path}: a Git LFS pointer, not audio; run: git lfs pull"
    return f"{path}: cannot be decoded as audio: {_reason(error)}"


def _reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", "") or error)
    return " ".join(text.split())

"""Audio files: read any rate and channel count as mono float32, resample, write, and ask for a duration."""

import io
import math
import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hw_base.audio import containers
from hw_base.errors import DataError, MissingPackageError

# What folders are searched for, in the order of preference where one utterance lies in several formats.
EXTENSIONS = (".wav", ".flac", ".ogg", ".mp3", ".opus", ".oga", ".aiff", ".aif", ".au", ".caf", ".w64")

# In Hz. Beyond these a header is damaged, and resampling would fill the memory.
_RATES = range(1_000, 1_000_001)
# A filter has as many numbers as the product of both sides of the ratio: 441 is needed for 44.1 kHz to 16 kHz.
_MAX_DENOMINATOR = 1_000
# Samples belong in [-1, 1]. A float file may go beyond by a little; this is 40 dB above full scale, where a file was
# written as float without dividing by 32768, or is damaged.
_LOUDEST = 100.0
# In frames of all channels. More is no length but what an encoder writes that cannot seek back to correct it.
_UNKNOWN_LENGTH = 1 << 40
_BLOCK = 1 << 20


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


def load(
    path: str | os.PathLike[str],
    sample_rate: int | None = None,
    segment: tuple[float, float] | None = None,
    content: bytes | None = None,
) -> tuple[Tensor, int]:
    """Read a file or a segment of it; several channels become their mean.

    The format is found from the content, never from the extension.

    Args:
        path: wav, flac, ogg, mp3, or whatever else libsndfile reads.
        sample_rate: resample to this rate, in Hz; None keeps the file's own.
        segment: start and length in seconds; None is the whole file. What lies behind the file's end is left out.
        content: the audio file itself, where it lies within the one that ``path`` names.

    Returns:
        waveform (Tensor): (S,), float32, in [-1, 1] where the file's samples are.
        sample_rate (int): in Hz, of the waveform.

    Raises:
        DataError: missing, unreadable, undecodable, cut short, or its samples are not finite or absurdly loud.
    """
    soundfile = _soundfile("reading audio")
    try:
        _refuse_no_file(path)
        with soundfile.SoundFile(os.fspath(path) if content is None else io.BytesIO(content)) as file:
            rate = _checked_header(path, file.samplerate, file.channels)
            samples = _samples(file, segment)
            expected = None if segment is not None or file.format == "MP3" else _length(file)
    except (OSError, RuntimeError, TypeError, ValueError, MemoryError) as error:
        raise DataError(_unreadable(path, error)) from error
    fault = containers.truncation(path, content)
    if fault is None and expected is not None and len(samples) < expected:
        fault = f"{len(samples) / rate:.2f} s of audio where its header says {expected / rate:.2f} s"
    if fault is not None:
        raise DataError(f"{path}: truncated: {fault}")
    channels = torch.from_numpy(samples)
    waveform = channels[:, 0].contiguous() if channels.shape[1] == 1 else channels.mean(dim=1)
    fault = sample_fault(waveform)
    if fault is not None:
        raise DataError(f"{path}: {fault}")
    if sample_rate is None:
        return waveform, int(rate)
    return resample(waveform, int(rate), sample_rate), sample_rate


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """Length, rate and channels from the header; the samples are decoded only where it does not say how many.

    Raises:
        DataError: missing, unreadable, of an unknown format, or shorter than its header says.
    """
    soundfile = _soundfile("reading audio")
    try:
        _refuse_no_file(path)
        with soundfile.SoundFile(os.fspath(path)) as file:
            rate = _checked_header(path, file.samplerate, file.channels)
            length = _length(file)
            if length is None:
                length = sum(len(block) for block in _blocks(file))
            found = AudioInfo(length, rate, int(file.channels))
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(_unreadable(path, error)) from error
    fault = containers.truncation(path)
    if fault is not None:
        raise DataError(f"{path}: truncated: {fault}")
    return found


def sample_fault(waveform: Tensor) -> str | None:
    """Why samples are no sound: NaN, infinite, or far beyond [-1, 1]; None where they are one.

    Args:
        waveform: float, of any shape.
    """
    if not waveform.numel():
        return None
    low, high = (float(value) for value in torch.aminmax(waveform))
    if not (math.isfinite(low) and math.isfinite(high)):
        return "samples are NaN or infinite"
    loudest = max(-low, high)
    if loudest > _LOUDEST:
        return f"samples of up to {loudest:.3g}, where [-1, 1] is expected: a float file that was written unscaled?"
    return None


def resample(waveform: Tensor, from_rate: int, to_rate: int) -> Tensor:
    """Band-limited resampling by a windowed sinc; (..., S) -> (..., ceil(S * to_rate / from_rate)).

    The ratio of rates that have next to no common divisor, such as 44 101 Hz and 16 kHz, is right to a millionth.

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


def _checked_header(path: str | os.PathLike[str], rate: int, channels: int) -> int:
    if rate not in _RATES or channels < 1:
        raise DataError(f"{path}: cannot be used as audio: its header says {rate} Hz, {channels} channels")
    return int(rate)


def _length(file: Any) -> int | None:
    """In samples of each channel; None where the header does not say."""
    return int(file.frames) if file.frames < _UNKNOWN_LENGTH else None


def _samples(file: Any, segment: tuple[float, float] | None) -> Any:
    """(S, C), float32."""
    if segment is not None:
        start, count = (round(seconds * file.samplerate) for seconds in segment)
        length = _length(file)
        if length is None:
            return np.concatenate(list(_blocks(file)))[start : start + count]
        file.seek(min(start, length))
        return file.read(min(count, max(0, length - start)), dtype="float32", always_2d=True)
    if _length(file) is None:
        return np.concatenate(list(_blocks(file)))
    return file.read(dtype="float32", always_2d=True)


def _blocks(file: Any) -> Iterator[Any]:
    """The samples to the end of a file whose length is not known."""
    file.seekable = lambda: False  # otherwise each read ends with a seek, which fails at such a file's end
    while True:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)
        yield block
        if len(block) < _BLOCK:
            return


def _refuse_no_file(path: str | os.PathLike[str]) -> None:
    # Opening a pipe waits for a writer, and a device never ends.
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

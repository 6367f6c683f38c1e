"""Fundamental frequency, one value for each frame of the spectrogram: WORLD's DIO and Harvest, and YIN in torch."""

from types import ModuleType
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_base.errors import MissingPackageError
from hw_tts.features.yin import yin

PitchMethod = Literal["dio", "harvest", "yin"]


def track(
    waveform: Tensor,
    sample_rate: int,
    hop_length: int,
    n_frames: int,
    method: PitchMethod = "dio",
    floor: float = 71.0,
    ceiling: float = 800.0,
    first: int = 0,
) -> Tensor:
    """F0 of one utterance; frame t is centered on sample ``first + t * hop_length``.

    Args:
        waveform: (S,), on any device.
        sample_rate: in Hz.
        hop_length: in samples; the trackers analyze at exactly this period, nothing is stretched afterwards.
        n_frames: T.
        method: ``dio`` (Morise et al. 2009) or ``harvest`` (Morise 2017), both refined by StoneMask, or ``yin``.
        floor: lowest F0 looked for, in Hz.
        ceiling: highest F0 looked for, in Hz.
        first: the sample on which frame 0 is centered.

    Returns:
        Tensor: (T,), float32, Hz, on the CPU; 0 where a frame is unvoiced.

    Raises:
        MissingPackageError: pyworld is not installed, and the method is not ``yin``.
    """
    # Trackers center their first frame on sample 0: silence before the utterance moves the grid.
    shift = -first % hop_length
    skipped = (first + shift) // hop_length
    samples = F.pad(waveform.detach().cpu(), (shift, 0))
    if method == "yin":
        pitch = yin(samples.float(), sample_rate, hop_length, n_frames + skipped, floor, ceiling)
    else:
        found = _world(samples.double().numpy(), sample_rate, hop_length, method, floor, ceiling)
        pitch = torch.from_numpy(found).float()
    pitch = pitch[skipped : skipped + n_frames]
    return F.pad(pitch, (0, n_frames - len(pitch)))


def interpolated(pitch: Tensor) -> Tensor:
    """The contour without gaps: straight lines over unvoiced stretches, constant before and after the voiced part.

    Args:
        pitch: (T,), 0 where unvoiced.

    Returns:
        Tensor: (T,), of the same type; zeros if nothing is voiced.
    """
    voiced = (pitch > 0).nonzero().flatten().numpy()
    if len(voiced) == 0:
        return torch.zeros_like(pitch)
    filled = np.interp(np.arange(len(pitch)), voiced, pitch.numpy()[voiced])
    return torch.from_numpy(filled).to(pitch.dtype)


def _world(
    samples: np.ndarray, sample_rate: int, hop_length: int, method: str, floor: float, ceiling: float
) -> np.ndarray:
    pyworld = _pyworld(method)
    analyze = pyworld.dio if method == "dio" else pyworld.harvest
    period = 1000.0 * hop_length / sample_rate
    coarse, times = analyze(samples, sample_rate, f0_floor=floor, f0_ceil=ceiling, frame_period=period)
    refined: np.ndarray = pyworld.stonemask(samples, coarse, times, sample_rate)
    return refined


def _pyworld(method: str) -> ModuleType:
    try:
        import pyworld
    except ImportError as error:
        raise MissingPackageError(f"the pitch tracker {method!r}", "pyworld") from error
    module: ModuleType = pyworld
    return module

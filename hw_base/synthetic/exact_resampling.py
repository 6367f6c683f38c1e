"""Resampling of 16-bit samples that gives the same bits whatever the library, the threads and the order of sums.

`hw_base.audio.io.resample` is for tensors on their way to a model; this is for making files that must be reproducible.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# The response falls from 1 to the stop band over this fraction of the lower rate's half, up to that half itself.
_TRANSITION = 0.1
_ATTENUATION = 80.0
# Coefficients are whole numbers of this unit. Times 16-bit samples, their sums stay far below 2**53, so that double
# precision adds them without any rounding, in any order.
_UNIT = 2.0**-22
# Phases that share one matrix product: fewer waste calls, more waste multiplications by zero.
_GROUP = 20


def resample(samples: NDArray[np.int16], from_rate: int, to_rate: int) -> NDArray[np.int16]:
    """Band-limited resampling, (S,) -> (ceil(S * to_rate / from_rate),), without delay; peaks are clipped.

    A Kaiser-windowed sinc: flat to within 0.01 dB up to 90 % of the lower rate's half, 80 dB down from that half on
    (J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", 1974).

    Args:
        samples: (S,).
        from_rate: in Hz.
        to_rate: in Hz.
    """
    divisor = math.gcd(from_rate, to_rate)
    up, down = to_rate // divisor, from_rate // divisor
    n_out = -(-len(samples) * up // down)
    if up == down or n_out == 0:
        return samples
    n_blocks = -(-n_out // up)
    half, groups = _filters(up, down)
    padded = np.zeros(half + (n_blocks + 1) * down + half + 1)
    padded[half : half + len(samples)] = samples
    out = np.empty((n_blocks, up))
    for phase, (start, matrix) in zip(range(0, up, _GROUP), groups, strict=True):
        windows = np.lib.stride_tricks.sliding_window_view(padded[start:], matrix.shape[0])[::down][:n_blocks]
        out[:, phase : phase + _GROUP] = windows @ matrix
    rounded = np.rint(out.reshape(-1)[:n_out] * _UNIT)
    return np.clip(rounded, -32768, 32767).astype(np.int16)


@lru_cache(maxsize=4)
def _filters(up: int, down: int) -> tuple[int, list[tuple[int, NDArray[np.float64]]]]:
    """Half of the filter's width in input samples, and for each group of phases its first sample and its matrix."""
    nyquist = 0.5 * min(1.0, up / down)
    width = _TRANSITION * nyquist
    half = math.ceil((_ATTENUATION - 7.95) / (2.285 * 2 * math.pi * width) / 2)
    groups = []
    for phase in range(0, up, _GROUP):
        times = np.arange(phase, min(phase + _GROUP, up)) * (down / up)
        start = int(times[0])
        positions = np.arange(start - half, int(times[-1]) + half + 1)
        distance = positions[:, None] - times[None, :]
        window = np.i0(0.1102 * (_ATTENUATION - 8.7) * np.sqrt(np.clip(1 - (distance / half) ** 2, 0, None)))
        taps = np.where(np.abs(distance) <= half, window * np.sinc((2 * nyquist - width) * distance), 0.0)
        groups.append((start, np.rint(taps / taps.sum(axis=0) / _UNIT)))
    return half, groups

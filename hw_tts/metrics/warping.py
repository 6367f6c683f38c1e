"""Dynamic time warping of two sequences of vectors."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_base.errors import MissingPackageError

Floats = NDArray[np.float64]
Path = tuple[NDArray[np.int64], NDArray[np.int64]]

_DIAGONAL, _UP, _LEFT = 0, 1, 2


def warping_path(a: Floats, b: Floats) -> Path:
    """The pairs of frames with the smallest sum of Euclidean distances.

    Exact, over all monotonic paths from the first pair of frames to the last with the steps (1, 1), (1, 0) and (0, 1),
    each step weighing 1 (Sakoe and Chiba 1978, "Dynamic Programming Algorithm Optimization for Spoken Word
    Recognition", without a window); among equal ones the diagonal is preferred.

    Args:
        a: (T, D), at least one frame.
        b: (T', D), at least one frame.

    Returns:
        Frames of ``a`` and of ``b``, both (N,), int64, with max(T, T') <= N < T + T'.
    """
    assert len(a)
    assert len(b)
    steps = np.empty((len(a), len(b)), dtype=np.int8)
    first, second = np.empty(len(a) + len(b), np.int64), np.empty(len(a) + len(b), np.int64)
    n = _compiled()(np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64), steps, first, second)
    return first[:n][::-1].copy(), second[:n][::-1].copy()


def _warp(a: Floats, b: Floats, steps: NDArray[np.int8], first: NDArray[np.int64], second: NDArray[np.int64]) -> int:
    """Fill in the steps and trace them back; the path's length, its pairs last to first."""
    n, m = steps.shape
    row = np.empty(m)
    for i in range(n):
        corner = left = np.inf
        for j in range(m):
            square = 0.0
            for k in range(a.shape[1]):
                difference = a[i, k] - b[j, k]
                square += difference * difference
            above = row[j] if i > 0 else np.inf
            if i == 0 and j == 0:
                best, step = 0.0, _DIAGONAL
            elif corner <= above and corner <= left:
                best, step = corner, _DIAGONAL
            elif above <= left:
                best, step = above, _UP
            else:
                best, step = left, _LEFT
            steps[i, j] = step
            corner = above
            left = row[j] = best + np.sqrt(square)
    i, j, length = n - 1, m - 1, 0
    while True:
        first[length], second[length] = i, j
        length += 1
        if i == 0 and j == 0:
            return length
        step = steps[i, j]
        i -= step != _LEFT
        j -= step != _UP


@cache
def _compiled() -> Callable[..., int]:
    try:
        import numba
    except ImportError as error:
        raise MissingPackageError("dynamic time warping", "numba") from error
    compiled: Any = numba.njit(cache=True, nogil=True)(_warp)
    function: Callable[..., int] = compiled
    return function

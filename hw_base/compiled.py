"""Loops compiled by numba. This module needs numba and is imported where a loop is used."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """Compile at the first call, without the GIL, and keep the machine code where a folder for it can be written.

    Args:
        function: of numbers and arrays.
        options: of ``numba.njit``.
    """
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        result: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no place for its cache
        result = numba.njit(**options)(function)
    return result

"""Shared by all tests: one thread a process, a small spoken corpus made once, and the folder of real recordings."""

import contextlib
import logging
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

import hw_asr  # noqa: F401 - fills the registries
import hw_tts  # noqa: F401

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

_LOGGERS = (None, "hw_base", "hw_asr", "hw_tts")


@contextlib.contextmanager
def logging_left_as_found():
    """The entry points set up logging for a whole process; afterwards levels and handlers are those before."""
    root = logging.getLogger()
    levels, handlers = {name: logging.getLogger(name).level for name in _LOGGERS}, list(root.handlers)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)


@pytest.fixture(autouse=True)
def _logging_left_as_found():
    """A test must not change what the next one sees."""
    with logging_left_as_found():
        yield


@pytest.fixture
def real_data() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}")
    return folder


def same(a, b):
    """Whether two nested containers hold equal values, tensors compared to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b

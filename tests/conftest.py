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
from hw_base.audio import io as audio

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
WORDS = ["SEVEN", "DAYS", "AND", "TEN", "KEYS", "WERE", "HERE", "THEY", "SAW", "THE", "SEA"]

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


@pytest.fixture
def small_librispeech(tmp_path):
    """Tones with transcripts, in the layout and with the speakers that the configs name."""
    generator = torch.Generator().manual_seed(0)
    speakers = {"train-clean-100": ["19", "26", "27"], "dev-clean": ["2277", "777", "84"], "test-other": ["367"]}
    for part, names in speakers.items():
        for name in names:
            folder, lines = tmp_path / "LibriSpeech" / part / name / "1", []
            folder.mkdir(parents=True)
            for i in range(21 if part == "train-clean-100" else 3):
                identifier = f"{name}-1-{i:04d}"
                pitch = 90 + 20 * int(torch.randint(0, 8, (), generator=generator))
                time = torch.arange(24000) / 16000
                waveform = sum(torch.sin(6.283 * pitch * k * time) / k for k in range(1, 8)) * 0.1
                waveform = waveform * (0.6 + 0.4 * torch.sin(20 * time)) + 0.003 * torch.randn(
                    24000, generator=generator
                )
                audio.save(folder / f"{identifier}.flac", waveform, 16000)
                lines.append(f"{identifier} {' '.join(WORDS[i % 5 : i % 5 + 4])}")
            (folder / f"{name}-1.trans.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def same(a, b):
    """Whether two nested containers hold equal values, tensors compared to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b

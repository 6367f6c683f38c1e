"""Small inputs that checks share: texts and waveforms, the same at each call."""

import math
from pathlib import Path

import torch
from torch import Tensor

from hw_base.audio import io as audio
from hw_base.synthetic import sentences


def texts(n: int = 100) -> list[str]:
    """Everyday sentences."""
    return sentences.draw("train", n, seed=0)


def waveform(n_samples: int, sample_rate: int = 16000, seed: int = 0) -> Tensor:
    """Bursts of a harmonic tone with a little noise, (S,), within [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(n_samples) / sample_rate
    pitch = 110.0 + 20.0 * (seed % 5)
    tone = torch.stack([torch.sin(2 * math.pi * pitch * k * time) / k for k in range(1, 9)]).sum(0)
    bursts = (torch.sin(2 * math.pi * 2 * time) > -0.5).float()
    return 0.1 * tone * bursts + 0.001 * torch.randn(n_samples, generator=generator)


def audio_folder(folder: Path, sample_rate: int = 16000) -> Path:
    """A folder with two sounds, for components that read some."""
    for seed, n_samples in ((3, 5000), (4, 30000)):
        audio.save(folder / f"{seed}.wav", waveform(n_samples, sample_rate, seed), sample_rate)
    return folder

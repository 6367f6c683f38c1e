"""Augmentations against torchaudio's, in one process on one thread: ``python -m benchmarks.augmentations``.

Prints a table of CPU milliseconds for one utterance of 10 s: the least process time of several repeats, ours and
torchaudio's in turn, so that a busy machine slows both.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchaudio

from hw_asr.augmentations import (
    BackgroundNoise,
    BandPass,
    ColoredNoise,
    PitchShift,
    Reverberation,
    SpecAugment,
    SpeedPerturbation,
)
from hw_base.audio import io as audio

SAMPLE_RATE = 16000
SECONDS = 10
BATCH = 32


def least_ms(calls: list[Callable[[], object]], repeats: int) -> list[float]:
    best = [float("inf")] * len(calls)
    for call in calls:
        call()
    for _ in range(repeats):
        for i, call in enumerate(calls):
            start = time.process_time_ns()
            call()
            best[i] = min(best[i], (time.process_time_ns() - start) / 1e6)
    return best


def row(name: str, ours: Callable[[], object], peer: Callable[[], object] | None, repeats: int, share: int = 1) -> str:
    times = [ms / share for ms in least_ms([ours] if peer is None else [ours, peer], repeats)]
    versus = f"{times[1]:.2f} | {times[1] / times[0]:.1f}x" if peer is not None else "| "
    return f"| {name} | {times[0]:.3f} | {versus} |"


def torchaudio_masks() -> Callable[[torch.Tensor], torch.Tensor]:
    transforms = [torchaudio.transforms.FrequencyMasking(27)] * 2 + [torchaudio.transforms.TimeMasking(50)] * 10
    return torch.nn.Sequential(*transforms)


def main() -> None:
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(SECONDS * SAMPLE_RATE, generator=generator)
    n_response = SAMPLE_RATE // 2
    response = 0.3 * torch.randn(n_response, generator=generator) * torch.exp(-torch.arange(n_response) / 2000.0)
    response[0] = 1.0
    with tempfile.TemporaryDirectory() as folder:
        audio.save(Path(folder) / "sound.wav", response, SAMPLE_RATE)
        reverberation = Reverberation(folder, SAMPLE_RATE, p=1.0)
        background = BackgroundNoise(folder, SAMPLE_RATE, p=1.0)
        background(waveform, generator), reverberation(waveform, generator)
    pitch = PitchShift(SAMPLE_RATE, 2.0, 2.0, p=1.0)
    peer_pitch = torchaudio.transforms.PitchShift(SAMPLE_RATE, 2)
    colored, band = ColoredNoise(p=1.0), BandPass(SAMPLE_RATE, p=1.0)
    speed, peer_speed = SpeedPerturbation((0.9,)), torchaudio.transforms.Speed(SAMPLE_RATE, 0.9)
    spectrogram = torch.randn(80, 100 * SECONDS, generator=generator)
    batch, length = spectrogram.repeat(BATCH, 1, 1), torch.full((BATCH,), 100 * SECONDS)
    masks, spec_augment, warp = torchaudio_masks(), SpecAugment(fill="zero"), SpecAugment(time_warp=40)
    print("| augmentation of 10 s | ours, ms | torchaudio, ms | ratio |\n|---|---|---|---|")
    print(
        row(
            "reverberation, response of 0.5 s (`fftconvolve`)",
            lambda: reverberation(waveform, generator),
            lambda: torchaudio.functional.fftconvolve(waveform, response)[: len(waveform)],
            20,
        )
    )
    print(
        row(
            "pitch, +2 semitones (`PitchShift`)",
            lambda: pitch(waveform, generator),
            lambda: peer_pitch(waveform),
            8,
        )
    )
    print(
        row(
            "SpecAugment, 2 + 10 masks (`FrequencyMasking`, `TimeMasking`)",
            lambda: spec_augment(spectrogram, generator),
            lambda: masks(spectrogram),
            200,
        )
    )
    print(
        row(
            f"the same, a batch of {BATCH} with masks of its own for each utterance",
            lambda: spec_augment.batch(batch, length, generator),
            lambda: [masks(item) for item in batch],
            20,
            BATCH,
        )
    )
    print(row("speed 0.9 (`Speed`)", lambda: speed(waveform, generator), lambda: peer_speed(waveform), 20))
    for name, call in (
        ("SpecAugment with time warp and mean fill", lambda: warp(spectrogram, generator)),
        ("colored noise", lambda: colored(waveform, generator)),
        ("background noise", lambda: background(waveform, generator)),
        ("band-pass", lambda: band(waveform, generator)),
    ):
        print(row(name, call, None, 20))


if __name__ == "__main__":
    main()

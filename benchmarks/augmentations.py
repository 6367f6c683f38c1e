"""Augmentations against torchaudio's, in one process on one thread: ``python -m benchmarks.augmentations``.

CPU milliseconds for one utterance of 10 s: the least process time of several repeats, ours and torchaudio's in turn,
so that a busy machine slows both.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torchaudio

from benchmarks import measuring
from benchmarks.measuring import Row
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


def row(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object] | None,
    repeats: int,
    method: str = "",
    share: int = 1,
) -> Row:
    """Of one augmentation; `method` is torchaudio's, `share` how many utterances a call has."""
    seconds = measuring.compare({"ours": ours} | ({"peer": peer} if peer is not None else {}), repeats)
    seconds = {side: value / share for side, value in seconds.items()}
    name = f"{name} of {SECONDS} s"
    if peer is None:
        return Row(name, "-", "CPU time", None, note=f"{1e3 * seconds['ours']:.3f} ms")
    return measuring.against(name, f"torchaudio, {method}", "CPU time", seconds["peer"], seconds["ours"])


def torchaudio_masks() -> Callable[[torch.Tensor], torch.Tensor]:
    transforms = [torchaudio.transforms.FrequencyMasking(27)] * 2 + [torchaudio.transforms.TimeMasking(50)] * 10
    return torch.nn.Sequential(*transforms)


def main() -> None:
    arguments = measuring.parser(__doc__, repeats=20).parse_args()
    measuring.write(list(rows(arguments.repeats)), "augmentations", arguments.output)


def rows(repeats: int) -> Iterator[Row]:
    """Of what torchaudio has too, then of our own; what takes longer is repeated less often."""
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
    yield row(
        "reverberation, response of 0.5 s,",
        lambda: reverberation(waveform, generator),
        lambda: torchaudio.functional.fftconvolve(waveform, response)[: len(waveform)],
        repeats,
        "`fftconvolve`",
    )
    yield row(
        "pitch, +2 semitones,",
        lambda: pitch(waveform, generator),
        lambda: peer_pitch(waveform),
        -(-repeats // 3),
        "`PitchShift`",
    )
    masking = "`FrequencyMasking`, `TimeMasking`"
    yield row(
        "SpecAugment, 2 + 10 masks,",
        lambda: spec_augment(spectrogram, generator),
        lambda: masks(spectrogram),
        10 * repeats,
        masking,
    )
    yield row(
        f"the same, a batch of {BATCH} with masks of its own for each utterance",
        lambda: spec_augment.batch(batch, length, generator),
        lambda: [masks(item) for item in batch],
        repeats,
        masking,
        BATCH,
    )
    yield row("speed 0.9", lambda: speed(waveform, generator), lambda: peer_speed(waveform), repeats, "`Speed`")
    for name, call in (
        ("SpecAugment with time warp and mean fill", lambda: warp(spectrogram, generator)),
        ("colored noise", lambda: colored(waveform, generator)),
        ("background noise", lambda: background(waveform, generator)),
        ("band-pass", lambda: band(waveform, generator)),
    ):
        yield row(name, call, None, repeats)


if __name__ == "__main__":
    main()

import math

import pytest
import torch

from hw_asr import show_augmentations
from hw_asr.augmentations import Clipping, Gain, SpecAugment, SpeedPerturbation
from hw_base import audio
from hw_base.features import LogMelSpectrogram

pytest.importorskip("matplotlib", reason="draws a picture")


def test_audio_and_one_picture_are_written(tmp_path):
    features = LogMelSpectrogram(n_mels=20)
    waveform = 0.1 * torch.sin(2 * math.pi * 300 * torch.arange(8000) / 16000)
    augmentations = [Gain(6.0, 6.0, p=0.0), SpecAugment(), SpeedPerturbation((0.8,), p=0.0), Clipping(0.5, 0.5, p=1.0)]
    generator = torch.Generator().manual_seed(0)
    paths = show_augmentations.show(waveform, augmentations, features, tmp_path / "out", generator)
    names = ["00_before.wav", "01_Gain.wav", "03_SpeedPerturbation.wav", "04_Clipping.wav", "05_all.wav"]
    assert [path.name for path in paths] == [*names, "spectrograms.png"]
    before, gain, speed, clipped, everything = (audio.load(path)[0] for path in paths[:-1])
    torch.testing.assert_close(before, waveform, rtol=0, atol=1e-4)
    # Alone each acts, although its probability is 0; together they keep to their probabilities.
    torch.testing.assert_close(gain, waveform * 10 ** (6 / 20), rtol=0, atol=1e-4)
    assert len(speed) == 10000
    torch.testing.assert_close(everything, clipped, rtol=0, atol=1e-4)
    assert [a.p for a in augmentations] == [0.0, 1.0, 0.0, 1.0]
    assert paths[-1].read_bytes().startswith(b"\x89PNG")

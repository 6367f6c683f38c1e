import json
import math

import pytest
import torch

from hw_asr import show_augmentations
from hw_asr.augmentations import Clipping, Gain, SpecAugment, SpeedPerturbation
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram

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


def test_command(tmp_path, capsys):
    for name in ("a", "b"):
        audio.save(tmp_path / "audio" / f"{name}.wav", 0.1 * torch.randn(8000), 16000)
        (tmp_path / "transcriptions").mkdir(exist_ok=True)
        (tmp_path / "transcriptions" / f"{name}.txt").write_text("hello")
    config = {
        "task": "asr",
        "name": "shown",
        "data": {"train": {"datasets": [{"type": "CustomDir", "args": {"root": str(tmp_path)}}]}},
        "augmentations": ["Gain", {"type": "PitchShift", "args": {"max_semitones": 2}}, "SpecAugment"],
        "model": "DeepSpeech2",
        "optimizers": {"model": {"type": "AdamW"}},
        "trainer": {"max_steps": 1},
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    command = ["-c", str(path), "-o", str(tmp_path / "out")]
    assert show_augmentations.main(command) == 0
    written = [line.rsplit("/", 1)[-1] for line in capsys.readouterr().out.splitlines()]
    assert written == ["00_before.wav", "01_Gain.wav", "02_PitchShift.wav", "04_all.wav", "spectrograms.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(written)
    assert show_augmentations.main([*command, "-n", "2"]) == 2
    assert "error: --index 2: the training split has 2 utterances" in capsys.readouterr().err
    assert show_augmentations.main([*command, "--set", "augmentations=[]"]) == 2
    assert "augmentations is empty" in capsys.readouterr().err

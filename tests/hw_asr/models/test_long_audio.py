"""Long recordings: attention in chunks is exact, windows agree with the whole."""

import subprocess
import sys

import pytest
import torch

import hw_asr.recognizer as recognizer_module
from hw_asr.models.conformer.model import Conformer
from hw_asr.recognizer import CTCRecognizer
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.config import resolve as config
from hw_base.nn import attention
from tests.conftest import ROOT
from tests.recognizers import save_random


def conformer(positions="relative", n_tokens=29, n_mels=40):
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "width": 16, "n_heads": 2, "ff_width": 32, "kernel_size": 7, "subsampling_channels": 4}
    return Conformer(n_mels=n_mels, n_tokens=n_tokens, positions=positions, **sizes).eval()


@pytest.mark.parametrize("positions", ["relative", "absolute", "none"])
@pytest.mark.parametrize("n_frames", [1200, 2051])
def test_attention_in_chunks_is_equal_to_the_bit(positions, n_frames, monkeypatch):
    model = conformer(positions)
    x, length = torch.randn(2, 40, n_frames), torch.tensor([n_frames, n_frames // 2])
    with torch.no_grad():
        chunked = model(x, length)["log_probs"]
        monkeypatch.setattr(attention, "CHUNK", 1 << 20)
        whole = model(x, length)["log_probs"]
    assert chunked.shape[1] > 256
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seconds", [21.0, 23.4567, 38.0])
def test_windows_give_the_frames_of_the_whole(seconds, monkeypatch):
    settings = config.load(str(ROOT / "configs" / "tiny" / "conformer.json"))
    features = LogMelSpectrogram(sample_rate=8000, n_mels=40, normalize="none")
    made = CTCRecognizer(conformer("none"), features, CharTextEncoder(), settings, torch.device("cpu"))
    sound = torch.randn(round(8000 * seconds)) * torch.linspace(0.01, 0.1, round(8000 * seconds)).sin()
    for block in made.model.blocks:  # local models see no difference away from the edges
        block.attention.forward = lambda x, key_mask, positions=None: torch.zeros_like(x)
    whole, length = made.posteriors([sound], 8000)
    monkeypatch.setattr(recognizer_module, "LONGEST_SECONDS", 20)
    monkeypatch.setattr(recognizer_module, "WINDOW_SECONDS", 8)
    monkeypatch.setattr(recognizer_module, "OVERLAP_SECONDS", 3)
    joined, joined_length = made.posteriors([sound, sound[:8000]], 8000)
    assert joined_length.tolist()[0] == length.tolist()[0]
    torch.testing.assert_close(joined[0], whole[0], rtol=0, atol=1e-4)


_PEAK = """
import sys
from pathlib import Path
import torch
import hw_asr
torch.set_num_threads(1)
heard = hw_asr.load(sys.argv[1], "cpu").transcribe(sys.argv[2], details=True)
assert heard.words
print(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read under /proc")
def test_an_hour_of_audio_fits_into_two_gigabytes(tmp_path):
    """Of 6 and of 15 minutes it is measured; what the minutes between them take is added for each up to 60."""
    model, peaks = save_random(tmp_path / "model.pth", name="../conformer"), {}
    for minutes in (6, 15):
        loudness = torch.linspace(0.0, 60.0 * minutes, 60 * minutes * 16000).sin()
        audio.save(tmp_path / "long.wav", 0.1 * torch.randn(len(loudness)) * loudness, 16000)
        command = [sys.executable, "-c", _PEAK, str(model), str(tmp_path / "long.wav")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks[minutes] = int(done.stdout) * 1024
    assert peaks[15] + (60 - 15) * max(0, peaks[15] - peaks[6]) / (15 - 6) < 2e9

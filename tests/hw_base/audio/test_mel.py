import math

import numpy as np
import pytest
import torch

from hw_base.audio.mel import LogMelSpectrogram, hz_to_mel, mel_filter_bank, mel_to_hz
from hw_base.errors import ConfigError, DataError

RECOGNITION = {}
SYNTHESIS = {
    "sample_rate": 22050,
    "n_fft": 1024,
    "win_length": 1024,
    "hop_length": 256,
    "n_mels": 80,
    "f_min": 0.0,
    "f_max": 8000.0,
    "power": 1,
    "mel_scale": "slaney",
    "norm": "slaney",
    "eps": 1e-5,
    "normalize": "none",
}
SMALL = {"n_fft": 64, "win_length": 48, "hop_length": 20, "n_mels": 8}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_scales(scale):
    hz = torch.linspace(0, 11025, 500, dtype=torch.float64)
    mel = hz_to_mel(hz, scale)
    assert torch.all(mel.diff() > 0)
    assert torch.allclose(mel_to_hz(mel, scale), hz, atol=1e-8)
    known = {"htk": [0.0, 999.9855, 2840.0230], "slaney": [0.0, 15.0, 45.2456]}[scale]
    found = hz_to_mel(torch.tensor([0.0, 1000.0, 8000.0], dtype=torch.float64), scale)
    assert found.tolist() == pytest.approx(known, abs=1e-3)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize("norm", [None, "slaney"])
def test_filter_bank_equals_torchaudio(scale, norm):
    functional = pytest.importorskip("torchaudio.functional")
    ours = mel_filter_bank(22050, 1024, 80, 20.0, 8000.0, scale, norm)
    theirs = functional.melscale_fbanks(513, 20.0, 8000.0, 80, 22050, norm, scale)
    assert torch.allclose(ours, theirs.T, atol=2e-5 * float(theirs.max()))


def test_slaney_norm_gives_every_filter_the_same_area():
    filters = mel_filter_bank(22050, 8192, 40, 0.0, 8000.0, "slaney", "slaney")
    assert torch.allclose(filters.sum(dim=1) * 22050 / 8192, torch.ones(40), atol=2e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"sample_rate": 16000, "n_fft": 512, "win_length": 400, "hop_length": 160, "n_mels": 80},
        {"sample_rate": 16000, "n_fft": 400, "win_length": 400, "hop_length": 160, "n_mels": 64, "f_min": 20.0},
        {key: SYNTHESIS[key] for key in SYNTHESIS if key not in ("eps", "normalize")},
    ],
)
def test_equals_torchaudio(arguments):
    transforms = pytest.importorskip("torchaudio.transforms")
    ours = LogMelSpectrogram(**arguments, eps=1e-5, normalize="none")(noise(3, 5000))
    theirs = transforms.MelSpectrogram(**arguments)(noise(3, 5000)).clamp(min=1e-5).log()
    assert ours.shape == theirs.shape
    assert torch.allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("power", [1, 2])
def test_equals_the_definition(power):
    module = LogMelSpectrogram(sample_rate=8000, **SMALL, power=power, eps=1e-8, normalize="none")
    waveform = noise(300).double().numpy()
    padded = np.pad(waveform, 32, mode="reflect")
    window = np.zeros(64)
    window[8:56] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(48) / 48)
    n, k = np.arange(64), np.arange(33)[:, None]
    filters = mel_filter_bank(8000, 64, 8).double().numpy()
    columns = []
    for start in range(0, len(padded) - 63, 20):
        dft = (np.exp(-2j * np.pi * k * n / 64) * (padded[start : start + 64] * window)).sum(axis=1)
        columns.append(np.log(np.maximum(filters @ np.abs(dft) ** power, 1e-8)))
    found = module(torch.from_numpy(waveform).float())
    assert found.shape == (8, len(columns))
    assert np.allclose(found.numpy(), np.stack(columns, axis=1), atol=1e-4)


@pytest.mark.parametrize("padding", ["center", "same", "none"])
@pytest.mark.parametrize(("n_fft", "win_length", "hop_length"), [(64, 48, 20), (65, 65, 16), (64, 64, 64), (50, 20, 7)])
def test_frames_is_the_true_number(padding, n_fft, win_length, hop_length):
    module = LogMelSpectrogram(8000, n_fft, win_length, hop_length, n_mels=4, padding=padding)
    for n_samples in range(module.min_samples, module.min_samples + 70):
        frames = module.frames(n_samples)
        assert module(noise(n_samples)).shape == (4, frames)
        assert frames >= 1
    lengths = torch.arange(module.min_samples, module.min_samples + 70)
    assert module.frames(lengths).tolist() == [module.frames(n) for n in lengths.tolist()]
    assert module.frames(lengths).dtype == torch.int64


def test_frames_of_the_usual_formulas():
    assert LogMelSpectrogram().frames(16000) == 101
    assert LogMelSpectrogram(**SYNTHESIS).frames(22050) == 22050 // 256 + 1
    assert LogMelSpectrogram(**SYNTHESIS, padding="same").frames(22050) == 22050 // 256


@pytest.mark.parametrize("padding", ["center", "same", "none"])
def test_too_short_is_refused(padding):
    module = LogMelSpectrogram(8000, **SMALL, padding=padding)
    for shortfall in range(1, module.min_samples + 1):
        with pytest.raises(DataError, match="at least"):
            module(noise(module.min_samples - shortfall))
    with pytest.raises(DataError, match=f"a waveform of {module.min_samples - 1} samples"):
        module(noise(2, 500), torch.tensor([500, module.min_samples - 1]))


@pytest.mark.parametrize("normalize", ["none", "utterance", "per_bin"])
@pytest.mark.parametrize("padding", ["center", "same", "none"])
def test_alone_equals_in_a_padded_batch(normalize, padding):
    module = LogMelSpectrogram(8000, **SMALL, normalize=normalize, padding=padding)
    lengths = [64, 65, 84, 100, 333, 400, 79]
    # What lies behind an utterance may be anything; none of it may show.
    batch = torch.full((len(lengths), 400), 1e4)
    for row, n_samples in zip(batch, lengths, strict=True):
        row[:n_samples] = noise(n_samples, seed=n_samples)
    found = module(batch, torch.tensor(lengths))
    assert found.shape[-1] == module.frames(400)
    for row, n_samples in zip(found, lengths, strict=True):
        frames = module.frames(n_samples)
        assert torch.allclose(row[:, :frames], module(noise(n_samples, seed=n_samples)), atol=1e-5)
        assert not row[:, frames:].any()


@pytest.mark.parametrize(("normalize", "dim"), [("utterance", (0, 1)), ("per_bin", 1)])
def test_normalization(normalize, dim):
    plain = LogMelSpectrogram(8000, **SMALL, normalize="none")(noise(2000))
    found = LogMelSpectrogram(8000, **SMALL, normalize=normalize)(noise(2000))
    expected = (plain - plain.mean(dim, keepdim=True)) / plain.std(dim, correction=0, keepdim=True)
    assert torch.allclose(found, expected, atol=1e-5)


def test_silence_is_finite():
    for normalize in ("none", "utterance", "per_bin"):
        found = LogMelSpectrogram(8000, **SMALL, normalize=normalize)(torch.zeros(500))
        assert torch.allclose(found, torch.full_like(found, math.log(1e-6) if normalize == "none" else 0.0), atol=1e-3)


@pytest.mark.parametrize("power", [1, 2])
def test_gradient_is_finite_where_the_signal_is_silent(power):
    waveform = torch.cat([torch.zeros(300), noise(300)]).requires_grad_()
    LogMelSpectrogram(8000, **SMALL, power=power, normalize="none")(waveform).sum().backward()
    assert waveform.grad.isfinite().all()
    assert waveform.grad[400:].abs().min() > 0


def test_float32_under_autocast_and_no_state():
    module = LogMelSpectrogram(8000, **SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(noise(500))
    assert found.dtype == torch.float32
    assert torch.equal(found, module(noise(500)))
    assert module.state_dict() == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_fft": 256, "win_length": 400}, "win_length 400 must not exceed n_fft 256"),
        ({"f_max": 9000.0}, "f_max 9000 Hz is above half the sample rate, 8000 Hz"),
        ({"f_min": 4000.0, "f_max": 4000.0}, "f_min 4000 Hz must lie below f_max"),
        ({"n_mels": 200}, "mel filters lie between two bins"),
        ({"hop_length": 600, "padding": "same"}, "hop_length of at most n_fft 512"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        LogMelSpectrogram(**arguments)

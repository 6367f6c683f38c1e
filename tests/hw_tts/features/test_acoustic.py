import numpy as np
import pytest
import torch

from hw_base.audio import io as audio
from hw_base.errors import ConfigError, DataError
from hw_tts.features.acoustic import TTSFeatures

RATE = 22050


def voice(seconds: float = 1.0, hz: float = 150.0, rate: int = RATE) -> torch.Tensor:
    """Harmonics of one frequency, with a little noise."""
    time = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    tone = sum(torch.sin(2 * torch.pi * hz * k * time) / k for k in range(1, 12))
    return (0.1 * tone + 1e-3 * torch.randn(len(time), generator=torch.Generator().manual_seed(0))).float()


def test_spectrogram_equals_librosa(real_data):
    librosa = pytest.importorskip("librosa")
    features = TTSFeatures()
    clips = sorted((real_data / "LJSpeech-1.1" / "wavs").glob("*.wav"))[:6]
    assert clips
    for path in clips:
        waveform, rate = audio.load(path)
        assert rate == features.sample_rate
        mel = librosa.feature.melspectrogram(
            y=waveform.numpy().astype(np.float64),
            sr=rate,
            n_fft=1024,
            hop_length=256,
            n_mels=80,
            fmin=0,
            fmax=8000,
            power=1,
            pad_mode="reflect",
        )
        theirs = np.log(np.maximum(mel, 1e-5))
        ours = features.mel(waveform).numpy()
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < 1e-4


def test_energy_is_the_norm_of_the_magnitudes():
    waveform, features = voice(), TTSFeatures()
    magnitudes = torch.stft(waveform, 1024, 256, window=torch.hann_window(1024), return_complex=True).abs()
    assert torch.allclose(features.energy_of(waveform), magnitudes.norm(dim=0), rtol=1e-4)


@pytest.mark.parametrize("padding", ["center", "same", "none"])
@pytest.mark.parametrize("n_samples", [1025, 4096, 5000, 5119, 5120, 5121, 22050])
def test_all_have_the_frames_of_the_spectrogram(padding, n_samples):
    pytest.importorskip("pyworld")
    waveform, features = voice()[:n_samples], TTSFeatures(padding=padding)
    together = features.all_of(waveform)
    n_frames = features.frames(n_samples)
    assert together["spectrogram"].shape == (80, n_frames)
    assert {key: tuple(value.shape) for key, value in together.items() if key != "spectrogram"} == {
        "pitch": (n_frames,),
        "energy": (n_frames,),
        "voiced": (n_frames,),
    }
    assert torch.equal(together["spectrogram"], features(waveform))
    assert torch.equal(together["pitch"], features.pitch_of(waveform))
    assert torch.equal(together["energy"], features.energy_of(waveform))
    assert torch.equal(together["voiced"], features.voiced_of(waveform))


def test_a_batch_equals_its_utterances():
    features = TTSFeatures()
    long, short = voice(), voice(0.4, 230.0)
    batch = torch.nn.utils.rnn.pad_sequence([long, short], batch_first=True)
    rows = features(batch, torch.tensor([len(long), len(short)]))
    assert torch.allclose(rows[0], features(long), atol=1e-5)
    assert torch.allclose(rows[1, :, : features.frames(len(short))], features(short), atol=1e-5)


def test_too_short():
    features = TTSFeatures()
    for call in (features.mel, features.pitch_of, features.voiced_of, features.energy_of, features.all_of):
        with pytest.raises(DataError, match="at least 513 are needed"):
            call(torch.zeros(512))


@pytest.mark.parametrize("limits", [(300.0, 200.0), (100.0, 6000.0)])
def test_contradicting_pitch_limits(limits):
    with pytest.raises(ConfigError, match="pitch_floor < pitch_ceiling"):
        TTSFeatures(pitch_floor=limits[0], pitch_ceiling=limits[1])


def test_gradient_reaches_the_waveform():
    waveform = voice(0.2).requires_grad_()
    TTSFeatures()(waveform).sum().backward()
    assert torch.isfinite(waveform.grad).all()
    assert (waveform.grad != 0).float().mean() > 0.99

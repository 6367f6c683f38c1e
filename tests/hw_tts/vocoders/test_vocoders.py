"""Vocoders: what is heard is what was in the spectrogram, alone and in a batch; wrong ones are refused."""

import json

import pytest
import torch

from hw_base import checkpoint
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import CheckpointError, ConfigError
from hw_tts.vocoders.loading import GriffinLim, check_constants, load_vocoder
from tests.conftest import SHARED

REFERENCE = SHARED / "reference" / "hifigan_v1_small.pt"


def mel(**changed):
    constants = {"sample_rate": 22050, "n_fft": 1024, "win_length": 1024, "hop_length": 256, "n_mels": 80}
    constants |= {"f_max": 8000.0, "power": 1, "mel_scale": "slaney", "norm": "slaney", "eps": 1e-5}
    return LogMelSpectrogram(**{**constants, "normalize": "none", **changed})


def tones(seconds=1.0, rate=22050, f0=140.0):
    """A harmonic sound that glides and fades, so that every frame differs."""
    t = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    phase = 2 * torch.pi * (f0 * t + 30.0 * t.square())
    sound = sum(torch.sin(k * phase) / k for k in range(1, 20))
    return (0.1 * sound * torch.sin(torch.pi * t / seconds)).float()


@pytest.fixture
def reference():
    if not REFERENCE.is_file():
        pytest.skip("no reference numbers")
    return checkpoint.load_untrusted(REFERENCE)


@pytest.fixture
def public(reference, tmp_path):
    """The files of a public checkpoint."""
    torch.save(reference["checkpoint"], tmp_path / "generator.pt")
    (tmp_path / "config.json").write_text(json.dumps(reference["config"]))
    return tmp_path / "generator.pt"


def test_linear_magnitudes_are_not_negative_and_have_the_mel_values():
    features = mel()
    spectrogram = features(tones())[None]
    errors = []
    for n in (20, 400):
        linear = GriffinLim(features, n_mel_iterations=n).magnitudes(spectrogram)
        assert (linear >= 0).all()
        again = (features.filters @ linear).clamp(min=1e-5).log()
        errors.append((again - spectrogram).abs().mean())
    assert errors[1] < 0.02 < errors[0] < 0.2


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("padding", ["center", "same"])
def test_the_mel_of_what_griffin_lim_says_is_the_mel_it_was_given(power, padding):
    features = mel(power=power, padding=padding)
    spectrogram = features(tones())[None]
    waveform = GriffinLim(features)(spectrogram)
    assert waveform.shape == (1, spectrogram.shape[-1] * 256)
    again = features(waveform)[:, :, : spectrogram.shape[-1]]
    error = (again - spectrogram)[..., 4:-4].abs().mean() / power
    assert error < 0.3
    silence = GriffinLim(features)(torch.full_like(spectrogram, -11.5 * power))
    assert silence.abs().max() < 1e-3


def test_more_iterations_and_momentum_come_closer():
    features = mel()
    spectrogram = features(tones())[None]

    def inconsistency(**arguments):
        vocoder = GriffinLim(features, **arguments)
        again = features(vocoder(spectrogram))[:, :, : spectrogram.shape[-1]]
        return (again - spectrogram).abs().mean()

    assert inconsistency(n_iterations=32) < inconsistency(n_iterations=4)
    assert inconsistency(n_iterations=16) < inconsistency(n_iterations=16, momentum=0.0)


def test_griffin_lim_says_the_same_alone_and_in_a_batch_and_every_time():
    features = mel()
    sounds = [tones(0.4), tones(0.25, f0=220.0), tones(0.5, f0=90.0)]
    spectrograms = [features(sound) for sound in sounds]
    length = torch.tensor([s.shape[-1] for s in spectrograms])
    batch = torch.zeros(3, 80, int(length.max()))
    for row, spectrogram in zip(batch, spectrograms, strict=True):
        row[:, : spectrogram.shape[-1]] = spectrogram
    # Rounding differs with the shape, and every iteration adds to it where a bin is all but silent.
    for n_iterations in (2, 32):
        vocoder = GriffinLim(features, n_iterations)
        together = vocoder(batch, length)
        for i, spectrogram in enumerate(spectrograms):
            alone = vocoder(spectrogram[None])[0]
            assert (together[i, : len(alone)] - alone).norm() < 0.1 * alone.norm()
            if n_iterations == 2:
                torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-4, rtol=0)
            assert not together[i, len(alone) :].any()
        assert torch.equal(vocoder(batch, length), together)


@pytest.mark.parametrize("n_frames", [1, 2])
def test_a_frame_is_enough(n_frames):
    features = mel()
    spectrogram = features(tones())[None, :, 40 : 40 + n_frames]
    waveform = GriffinLim(features)(spectrogram)
    assert waveform.shape == (1, 256 * n_frames)
    assert waveform.isfinite().all()


def test_normalized_features_cannot_be_voiced():
    with pytest.raises(ConfigError, match="normalize must be none, found 'per_bin'"):
        load_vocoder(None, mel(normalize="per_bin"))


def test_real_speech_keeps_its_mel(real_data):
    path = next((real_data / "LJSpeech-1.1" / "wavs").glob("*.wav"))
    features = mel()
    waveform, _ = audio.load(path, 22050)
    spectrogram = features(waveform[:22050])[None]
    again = features(GriffinLim(features)(spectrogram))[:, :, : spectrogram.shape[-1]]
    assert (again - spectrogram).abs().mean() < 0.25


def test_a_public_checkpoint_gives_the_original_numbers(public, reference):
    vocoder = load_vocoder(public, mel())
    waveform = vocoder(reference["inputs"]["mel"])
    torch.testing.assert_close(waveform, reference["outputs"]["wav"].squeeze(1), atol=1e-5, rtol=0)
    assert (vocoder.sample_rate, vocoder.hop_length) == (22050, 256)


def test_a_generator_voices_a_padded_batch_as_its_utterances_one_by_one(public):
    vocoder = load_vocoder(public, mel())
    spectrogram, length = torch.randn(3, 80, 20), torch.tensor([20, 7, 7])
    together = vocoder(spectrogram, length)
    for i, frames in enumerate(length.tolist()):
        alone = vocoder(spectrogram[i : i + 1, :, :frames])[0]
        torch.testing.assert_close(together[i, : 256 * frames], alone, atol=1e-6, rtol=0)
        assert not together[i, 256 * frames :].any()


def test_a_vocoder_of_other_spectrograms_is_refused_with_both_lists(public):
    with pytest.raises(ConfigError) as caught:
        load_vocoder(public, mel(sample_rate=16000, hop_length=200, n_mels=64, f_max=7600.0))
    message = str(caught.value)
    assert "sample_rate 22050, hop_length 256, n_mels 80, f_max 8000.0" in message
    assert "sample_rate 16000, hop_length 200, n_mels 64, f_max 7600.0" in message
    assert "n_fft" not in message


def test_a_shift_of_half_a_hop_and_a_named_nyquist_frequency_are_no_difference():
    check_constants(mel(padding="same", f_max=None).constants(), mel(f_max=11025.0).constants(), "vocoder.pth")
    with pytest.raises(ConfigError, match=r"n_mels 80.*n_mels 40"):
        check_constants(mel().constants(), mel(n_mels=40).constants(), "vocoder.pth")


def test_bad_vocoder_files_give_one_line(public, reference, tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        load_vocoder(tmp_path / "none.pth", mel())
    torch.save({"generator": 3}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match="expected"):
        load_vocoder(tmp_path / "odd.pt", mel())
    weights = reference["checkpoint"]["generator"]
    torch.save({"generator": {k: v for k, v in weights.items() if k != "conv_pre.bias"}}, tmp_path / "less.pt")
    with pytest.raises(CheckpointError, match=r"missing conv_pre\.bias"):
        load_vocoder(tmp_path / "less.pt", mel())
    config = {k: v for k, v in reference["config"].items() if k != "upsample_rates"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="the key 'upsample_rates' is missing"):
        load_vocoder(public, mel())
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"needs its config.json beside it"):
        load_vocoder(public, mel())

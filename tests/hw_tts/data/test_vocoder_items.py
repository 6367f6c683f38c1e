"""Items of vocoding: pieces of waveform and spectrogram belong together, whatever their place and length."""

import numpy as np
import pytest
import torch

from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.dataset import Record
from hw_base.errors import ConfigError, DataError
from hw_tts.data.vocoder_items import VocoderItemMaker

RECORD = Record("u1", "u1.wav", 1.0, None, "anna")


def mel(**changed):
    constants = {"sample_rate": 8000, "n_fft": 256, "win_length": 256, "hop_length": 64, "n_mels": 20}
    return LogMelSpectrogram(**{**constants, "normalize": "none", "eps": 1e-5, **changed})


def noise(n_samples, seed=0):
    return 0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(seed))


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("padding", ["center", "same"])
@pytest.mark.parametrize("n_samples", [64 * 40, 64 * 40 + 17, 64 * 8, 64 * 9 - 1])
def test_a_piece_is_what_the_whole_has_at_its_place(padding, n_samples):
    features, waveform = mel(padding=padding), noise(n_samples)
    whole = features(waveform)
    make = VocoderItemMaker(features, 8)
    starts = set()
    for seed in range(40):
        item = make(RECORD, waveform, draw(seed))
        assert item["waveform"].shape == (8 * 64,)
        assert item["spectrogram"].shape == (20, 8)
        place = (waveform.unfold(0, 512, 64) == item["waveform"]).all(dim=1).nonzero().item()
        starts.add(place)
        torch.testing.assert_close(item["spectrogram"], whole[:, place : place + 8], atol=1e-5, rtol=1e-5)
    possible = n_samples // 64 - 8 + 1
    assert starts <= set(range(possible))
    assert len(starts) > possible / 2


def test_the_generator_alone_chooses_the_place():
    make, waveform = VocoderItemMaker(mel(), 4), noise(6000)
    first, again, other = (make(RECORD, waveform, draw(seed))["waveform"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("n_samples", [1, 100, 300, 511])
def test_an_utterance_shorter_than_a_piece_ends_in_silence(n_samples):
    features, waveform = mel(), noise(n_samples)
    item = VocoderItemMaker(features, 8)(RECORD, waveform, draw())
    assert torch.equal(item["waveform"][:n_samples], waveform)
    assert not item["waveform"][n_samples:].any()
    assert item["waveform"].shape == (512,)
    torch.testing.assert_close(item["spectrogram"], features(item["waveform"])[:, :8])


def test_a_whole_utterance_is_left_as_it_is():
    features, waveform = mel(), noise(3001)
    item = VocoderItemMaker(features, None)(RECORD, waveform, draw())
    assert torch.equal(item["waveform"], waveform)
    assert torch.equal(item["spectrogram"], features(waveform))
    assert (item["utterance_id"], item["speaker"], item["text"]) == ("u1", "anna", None)


def test_audio_shorter_than_a_frame_is_refused_by_name():
    with pytest.raises(DataError, match="utterance 'u1': features: a waveform of 50 samples; at least 129 are needed"):
        VocoderItemMaker(mel(), None)(RECORD, noise(50), draw())


@pytest.mark.parametrize("form", ["npy", "npy transposed", "pt", "pt batch"])
def test_predicted_spectrograms_take_the_place_of_the_recordings(form, tmp_path):
    waveform = noise(64 * 30 + 5)
    frames = mel().frames(len(waveform))
    predicted = torch.arange(frames).float() + torch.arange(20).float().unsqueeze(1) / 100
    if form.startswith("npy"):
        np.save(tmp_path / "u1.npy", (predicted.T if "transposed" in form else predicted).numpy())
    else:
        torch.save(predicted[None] if "batch" in form else predicted, tmp_path / "u1.pt")
    whole = VocoderItemMaker(mel(), None, str(tmp_path))(RECORD, waveform, draw())
    assert torch.equal(whole["spectrogram"], predicted)
    for seed in range(10):
        item = VocoderItemMaker(mel(), 8, str(tmp_path))(RECORD, waveform, draw(seed))
        start = int(item["spectrogram"][0, 0])
        assert torch.equal(item["spectrogram"], predicted[:, start : start + 8])
        assert torch.equal(item["waveform"], waveform[start * 64 : (start + 8) * 64])


def test_a_short_predicted_spectrogram_is_followed_by_silence(tmp_path):
    np.save(tmp_path / "u1.npy", np.zeros((20, 4), dtype=np.float32))
    item = VocoderItemMaker(mel(), 8, str(tmp_path))(RECORD, noise(64 * 3 + 5), draw())
    assert not item["spectrogram"][:, :4].any()
    torch.testing.assert_close(item["spectrogram"][:, 4:], torch.full((20, 4), float(np.log(1e-5))))


def test_predicted_spectrograms_that_cannot_be_used_name_the_utterance(tmp_path):
    waveform = noise(64 * 30)

    def make(folder=tmp_path):
        return VocoderItemMaker(mel(), 8, str(folder))(RECORD, waveform, draw())

    with pytest.raises(ConfigError, match=r"trainer\.args\.mels: no such folder"):
        make(tmp_path / "none")
    with pytest.raises(DataError, match=r"utterance 'u1': .*no such file"):
        make()
    np.save(tmp_path / "u1.npy", np.zeros((20, 25), dtype=np.float32))
    with pytest.raises(DataError, match="'u1': its predicted spectrogram has 25 frames, its recording 31"):
        make()
    np.save(tmp_path / "u1.npy", np.zeros((40, 31), dtype=np.float32))
    with pytest.raises(DataError, match=r"has the shape \(40, 31\); expected 20 bands"):
        make()
    (tmp_path / "u1.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="'u1': its predicted spectrogram cannot be read"):
        make()

import itertools
import sys

import numpy as np
import pytest
import torch

from hw_base.audio import io as audio
from hw_base.errors import MissingPackageError
from hw_tts.features import pitch
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.features.yin import _cheapest_path, _fast_length, _without_short_stretches, yin

METHODS = ["dio", "harvest", "yin"]


def glide(rate: int, seconds: float, low: float, high: float) -> tuple[torch.Tensor, torch.Tensor]:
    """A voice that glides from one frequency to another: samples, and F0 at each."""
    time = torch.arange(int(rate * seconds), dtype=torch.float64) / rate
    f0 = low * (high / low) ** (time / seconds)
    phase = 2 * torch.pi * f0.cumsum(0) / rate
    voice = sum(torch.sin(k * phase) / k for k in range(1, 10))
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (0.1 * voice + 1e-3 * noise).float(), f0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("rate", "hop"), [(22050, 256), (16000, 160), (24000, 300), (8000, 100), (22050, 275)])
def test_values_stand_at_the_frames_times(method, rate, hop):
    if method != "yin":
        pytest.importorskip("pyworld")
    waveform, f0 = glide(rate, 1.5, 100.0, 300.0)
    n_frames = len(waveform) // hop + 1
    found = pitch.track(waveform, rate, hop, n_frames, method)
    assert found.shape == (n_frames,)
    inside = torch.arange(8, n_frames - 8)
    truth = f0[inside * hop].float()
    assert bool((found[inside] > 0).all())
    assert (found[inside] / truth - 1).abs().max() < 0.015
    # 10 ms late or early would be 0.7 % here.
    assert abs(float((found[inside] / truth - 1).mean())) < 0.003


@pytest.mark.parametrize("first", [-100, 1, 128, 256, 700])
@pytest.mark.parametrize("method", ["dio", "yin"])
def test_the_first_frame_may_be_centered_anywhere(method, first):
    if method != "yin":
        pytest.importorskip("pyworld")
    waveform, f0 = glide(22050, 1.0, 120.0, 320.0)
    found = pitch.track(waveform, 22050, 256, 70, method, first=first)
    inside = torch.arange(6, 60)
    truth = f0[first + inside * 256].float()
    assert (found[inside] / truth - 1).abs().mean() < 0.004


@pytest.mark.parametrize("method", ["dio", "harvest"])
def test_world_is_called_at_the_hop_itself(method):
    """No stretching of the frame period to make the counts agree: the same numbers as pyworld's own."""
    pyworld = pytest.importorskip("pyworld")
    for n_samples in (20000, 20223, 20224, 20225):
        waveform = glide(22050, 1.0, 100.0, 200.0)[0][:n_samples]
        samples = waveform.double().numpy()
        coarse, times = getattr(pyworld, method)(samples, 22050, frame_period=256 / 22050 * 1000)
        if method == "dio":
            assert np.allclose(np.diff(times), 256 / 22050)
        refined = pyworld.stonemask(samples, coarse, times, 22050)
        n_frames = n_samples // 256 + 1
        assert abs(len(refined) - n_frames) <= 1
        found = pitch.track(waveform, 22050, 256, n_frames, method, floor=71.0, ceiling=800.0).numpy()
        shared = min(n_frames, len(refined))
        assert np.array_equal(found[:shared], refined[:shared].astype(np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_silence_and_noise_have_no_pitch(method):
    if method != "yin":
        pytest.importorskip("pyworld")
    features = TTSFeatures(pitch=method)
    assert not bool(features.pitch_of(torch.zeros(22050)).any())
    noise = 0.1 * torch.randn(22050, generator=torch.Generator().manual_seed(0))
    assert float(features.voiced_of(noise).float().mean()) < 0.25


@pytest.mark.parametrize("hz", [75.0, 110.0, 220.0, 440.0, 700.0])
def test_yin_is_within_half_a_percent(hz):
    waveform, _ = glide(22050, 0.5, hz, hz)
    found = pitch.track(waveform, 22050, 256, 44, "yin")[4:-4]
    assert (found / hz - 1).abs().max() < 0.005


def test_yin_with_a_narrow_range():
    waveform, _ = glide(22050, 0.5, 205.0, 205.0)
    assert (yin(waveform, 22050, 256, 44, 200.0, 212.0)[4:-4] / 205.0 - 1).abs().max() < 0.01


@pytest.mark.parametrize("n_samples", [1, 100, 600])
def test_yin_of_next_to_nothing(n_samples):
    found = pitch.track(torch.randn(n_samples), 22050, 256, n_samples // 256 + 1, "yin")
    assert found.shape == (n_samples // 256 + 1,)
    assert torch.isfinite(found).all()


def test_yin_agrees_with_dio_on_real_speech(real_data):
    pytest.importorskip("pyworld")
    paths = sorted((real_data / "LJSpeech-1.1" / "wavs").glob("*.wav"))[:3]
    paths += sorted((real_data / "VCTK-Corpus-0.92").rglob("*.flac"))[::10]
    both = gross = 0
    errors = []
    for path in paths:
        waveform, rate = audio.load(path)
        n_frames = len(waveform) // 256 + 1
        ours, theirs = (pitch.track(waveform, rate, 256, n_frames, method) for method in ("yin", "dio"))
        voiced = (ours > 0) & (theirs > 0)
        error = (ours / theirs.clamp(min=1.0) - 1).abs()[voiced]
        both, gross = both + len(error), gross + int((error > 0.2).sum())
        errors.append(error)
    assert both > 500
    assert gross / both < 0.02
    assert float(torch.cat(errors).median()) < 0.005


def test_path_is_the_cheapest_of_all():
    generator = np.random.default_rng(0)
    for _ in range(20):
        values, costs = generator.uniform(80, 400, (5, 2)), generator.uniform(0, 1, (5, 2))
        unvoiced = generator.uniform(0, 0.6, 5)

        def cost(states, values=values, costs=costs, unvoiced=unvoiced):
            total = sum(unvoiced[t] if s == 2 else costs[t, s] for t, s in enumerate(states))
            for t, (a, b) in enumerate(itertools.pairwise(states)):
                if (a == 2) != (b == 2):
                    total += 0.14
                elif a != 2:
                    total += 0.7 * abs(np.log2(values[t + 1, b] / values[t, a]))
            return total

        best = min(itertools.product(range(3), repeat=5), key=cost)
        assert tuple(_cheapest_path(values, costs, unvoiced)) == best


def test_short_stretches():
    found = _without_short_stretches(torch.tensor([1.0, 1, 0, 2, 2, 2, 0, 0, 3, 3, 3, 3, 0, 4]), 3)
    assert found.tolist() == [0, 0, 0, 2, 2, 2, 0, 0, 3, 3, 3, 3, 0, 0]
    assert _without_short_stretches(torch.tensor([1.0, 1.0]), 3).tolist() == [0, 0]


def test_fast_lengths():
    smooth = sorted(2**a * 3**b * 5**c for a, b, c in itertools.product(range(11), range(8), range(6)))
    for n in (1, 7, 431, 500, 601, 1000):
        assert _fast_length(n) == min(m for m in smooth if m >= n)


def test_interpolation_equals_a_loop():
    track = torch.tensor([0.0, 0, 100, 0, 0, 160, 150, 0, 190, 0])
    expected = []
    known = [(i, v) for i, v in enumerate(track.tolist()) if v > 0]
    for t in range(len(track)):
        left = [pair for pair in known if pair[0] <= t] or known[:1]
        right = [pair for pair in known if pair[0] >= t] or known[-1:]
        (a, low), (b, high) = left[-1], right[0]
        expected.append(low if a >= b else low + (high - low) * (t - a) / (b - a))
    assert pitch.interpolated(track).tolist() == pytest.approx(expected)
    assert pitch.interpolated(torch.zeros(5)).tolist() == [0.0] * 5
    assert pitch.interpolated(track).dtype == torch.float32


def test_missing_package_is_one_clear_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(MissingPackageError, match=r"'dio' needs the package 'pyworld'.*pip install pyworld"):
        pitch.track(torch.zeros(5000), 22050, 256, 20, "dio")

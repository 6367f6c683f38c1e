"""Mel-cepstra, warping, distortion and pitch of pairs: formulas, brute force, and the values of pymcd and SPTK."""

import math
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from hw_base.audio import io as audio
from hw_base.config.resolve import build
from hw_base.config.schema import Component
from hw_base.errors import DataError
from hw_base.registry import METRICS
from hw_tts.metrics.base import Pair
from hw_tts.metrics.cepstra import mel_alpha, mel_cepstra
from hw_tts.metrics.cepstral import MCD
from hw_tts.metrics.prosody import LogF0RMSE, VoicingError
from hw_tts.metrics.warping import warping_path
from hw_tts.metrics.world import PYMCD, TEXTBOOK, analyze


def figure(metric, *pairs):
    metric.reset()
    for pair in pairs:
        metric.update(pair)
    return metric.compute()


def voice(f0=120.0, seconds=0.6, formants=(700.0, 1200.0), rate=16000):
    """A vowel of pulses through two resonances, then a breath of noise."""
    t = torch.arange(int(seconds * rate), dtype=torch.float64) / rate
    wave = torch.zeros_like(t)
    for k in range(1, int(rate / 2 / f0)):
        gain = sum(1 / (1 + ((k * f0 - f) / 120.0) ** 2) for f in formants) + 0.01
        wave += gain * torch.sin(2 * math.pi * k * f0 * t)
    noise = 0.3 * torch.randn(rate // 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.cat([0.1 * wave, 0.05 * noise]).float()


@pytest.mark.parametrize(
    ("rate", "alpha"), [(8000, 0.312), (16000, 0.41), (22050, 0.455), (24000, 0.466), (44100, 0.544), (48000, 0.554)]
)
def test_alpha_is_that_of_pysptk(rate, alpha):
    assert mel_alpha(rate) == pytest.approx(alpha)


def test_unwarped_cepstra_give_the_spectrum_back():
    cepstra = np.array([[0.3, 0.8, -0.4, 0.2], [-1.0, 0.1, 0.5, -0.3]])
    omega = np.linspace(0, np.pi, 129)
    log_amplitude = cepstra @ np.cos(np.arange(4)[:, None] * omega)
    np.testing.assert_allclose(mel_cepstra(np.exp(2 * log_amplitude), 3, 0.0), cepstra, atol=1e-12)


def test_warped_cepstra_are_those_of_the_warped_spectrum():
    """Evaluated on the warped axis they must give the amplitude at the frequency that the all-pass moves there."""
    alpha, cepstra = 0.42, np.array([[0.3, 0.8, -0.4, 0.2]])
    omega = np.linspace(0, np.pi, 257)
    log_amplitude = cepstra @ np.cos(np.arange(4)[:, None] * omega)
    warped = mel_cepstra(np.exp(2 * log_amplitude), 60, alpha)
    axis = omega + 2 * np.arctan2(alpha * np.sin(omega), 1 - alpha * np.cos(omega))
    np.testing.assert_allclose(warped @ np.cos(np.arange(61)[:, None] * axis), log_amplitude, atol=1e-9)


@cache
def _paths(n, m):
    if n == 1 and m == 1:
        return [((0, 0),)]
    before = [(n - i, m - j) for i, j in ((1, 1), (1, 0), (0, 1)) if n - i and m - j]
    return [(*path, (n - 1, m - 1)) for a, b in before for path in _paths(a, b)]


@pytest.mark.parametrize(("n", "m"), list(product((1, 2, 5), (1, 4, 6))))
def test_warping_against_all_paths(n, m):
    rng = np.random.default_rng(10 * n + m)
    a, b = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    cost = {path: sum(np.linalg.norm(a[i] - b[j]) for i, j in path) for path in _paths(n, m)}
    i, j = warping_path(a, b)
    assert tuple(zip(i.tolist(), j.tolist(), strict=True)) == min(cost, key=cost.get)


def test_warping_finds_a_repetition():
    a = np.random.default_rng(0).normal(size=(40, 5))
    order = np.sort(np.r_[np.arange(40), [3, 3, 17, 30]])
    i, j = warping_path(a, a[order])
    assert i.tolist() == order.tolist()
    assert j.tolist() == list(range(44))


# The package's own figures (0.2.1, mode "dtw", with fastdtw 0.3.4 and pysptk 1.0.1), and those with the path that its
# FastDTW finds at a radius of 100, which is practically exact.
PYMCD_FIGURES = {
    "noise": (1.9071326126463857, 1.9071326126463855),
    "stretch": (5.276577010485579, 5.276577010485579),
    "echo": (4.720154067099563, 4.720154067099563),
    "dull": (3.250472627385507, 3.213682078518543),
    "another": (11.876929426326747, 11.838705012168644),
}


def distorted(x, kind):
    n = len(x)
    if kind == "noise":
        return x + 0.01 * np.sin(np.arange(n) ** 2 * 0.37)
    if kind == "stretch":
        m = int(n * 1.15)
        return np.interp(np.arange(m) * (n - 1) / (m - 1), np.arange(n), x)
    if kind == "echo":
        return np.r_[x[:1103], x[1103:] + 0.5 * x[:-1103]]
    return np.convolve(x, np.ones(5) / 5, "same")


@pytest.mark.parametrize("kind", list(PYMCD_FIGURES))
def test_distortion_is_that_of_pymcd(kind, real_data):
    wavs = real_data / "LJSpeech-1.1" / "wavs"
    reference, rate = audio.load(wavs / "LJ001-0008.wav")
    if kind == "another":
        other, _ = audio.load(wavs / "LJ001-0002.wav")
    else:
        other = torch.from_numpy(distorted(reference.double().numpy(), kind)).float()
    value = figure(MCD(), Pair(reference, other, rate))
    package, exact = PYMCD_FIGURES[kind]
    assert value == pytest.approx(package, rel=0.02)
    assert value == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("definition", ["pymcd", "textbook"])
def test_distortion_of_the_same_is_nothing_and_grows(definition):
    metric = build("metrics.mcd", Component(type="MCD", args={"definition": definition}), METRICS)
    x = voice()
    noise = torch.randn(len(x), generator=torch.Generator().manual_seed(2))
    figures = [figure(metric, Pair(x, x + level * noise, 16000)) for level in (0.0, 0.003, 0.03)]
    assert figures[0] == 0.0
    assert 0.0 < figures[1] < figures[2]
    assert figure(metric, Pair(x, voice(formants=(300.0, 2300.0)), 16000)) > figures[1]


def test_textbook_distortion_ignores_the_gain():
    """Twice as loud is the same envelope; a filter of known cepstrum is a known distance."""
    x = voice()
    assert figure(MCD("textbook"), Pair(x, 2 * x, 16000)) < 0.05
    assert figure(MCD("pymcd"), Pair(x, 2 * x, 16000)) > 1.0
    warped = analyze(x, 16000, TEXTBOOK).cepstra
    doubled = analyze(2 * x, 16000, TEXTBOOK).cepstra
    # The gain is c_0 + alpha-weighted rest; a factor of 2 adds log 2 to the first coefficient alone.
    assert np.median(doubled - warped, axis=0)[0] == pytest.approx(math.log(2), rel=1e-2)


def test_pairs_count_once_and_are_added_up():
    x, y, z = voice(), voice(formants=(300.0, 2300.0)), voice(seconds=1.0, formants=(500.0, 1500.0))
    short, long = Pair(x, y, 16000), Pair(x, z, 16000)
    a, b = figure(MCD(), short), figure(MCD(), long)
    assert figure(MCD(), short, long) == pytest.approx((a + b) / 2)
    assert math.isnan(figure(MCD()))


def test_pitch_error_is_the_logarithm_of_the_ratio():
    for factor in (1.0, 1.1, 1.3):
        pair = Pair(voice(150.0), voice(150.0 * factor), 16000)
        assert figure(LogF0RMSE(), pair) == pytest.approx(math.log(factor), abs=0.03)
    identical = Pair(voice(150.0), voice(150.0), 16000)
    assert figure(LogF0RMSE(), identical) == 0.0
    assert figure(VoicingError(), identical) == 0.0


def test_pitch_error_is_pooled_over_frames():
    near, far = Pair(voice(150.0), voice(160.0), 16000), Pair(voice(150.0, 1.2), voice(180.0, 1.2), 16000)
    squares, frames = (sum(x) for x in zip(*(LogF0RMSE().measure(pair) for pair in (near, far)), strict=True))
    assert figure(LogF0RMSE(), near, far) == pytest.approx(math.sqrt(squares / frames))


def test_voicing_error_notices_a_whisper():
    x = voice(150.0)
    whisper = 0.05 * torch.randn(len(x), generator=torch.Generator().manual_seed(3))
    error = figure(VoicingError(), Pair(x, whisper, 16000))
    assert 0.4 < error <= 1.0
    metric = LogF0RMSE()
    metric.update(Pair(x, torch.zeros(8000), 16000))
    assert metric.details()["skipped"] == 1
    assert math.isnan(metric.compute())


def test_analysis_is_done_once_for_all_metrics(monkeypatch):
    from hw_tts.metrics import base

    calls = []
    align = base.align
    monkeypatch.setattr(base, "align", lambda *a: calls.append(a[-1]) or align(*a))
    pair = Pair(voice(), voice(130.0), 16000)
    for metric in (MCD(), LogF0RMSE(), VoicingError(), MCD("textbook")):
        metric.update(pair)
    assert calls == [PYMCD, TEXTBOOK]


@pytest.mark.parametrize("n", [0, 1, 100, 2000])
def test_next_to_nothing_counts_as_silence(n):
    for metric in (MCD(), MCD("textbook"), VoicingError()):
        value = figure(metric, Pair(voice(), torch.zeros(n), 16000))
        assert math.isfinite(value)
        assert value > 0.3


def test_bad_waveforms_are_named():
    with pytest.raises(DataError, match="utterance 'u7': metrics need a finite synthesized"):
        Pair(torch.zeros(10), torch.tensor([0.0, float("nan")]), 16000, utterance_id="u7")
    with pytest.raises(DataError, match=r"finite reference .* shape \(1, 10\)"):
        Pair(torch.zeros(1, 10), torch.zeros(10), 16000)

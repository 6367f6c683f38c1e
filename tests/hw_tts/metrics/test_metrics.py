"""Metrics of synthesis: identity gives the optimum, more distortion a worse value, and wrong input no number."""

import copy
import math
import sys

import pytest
import torch

from hw_base.config.resolve import build
from hw_base.config.schema import Component
from hw_base.errors import CheckpointError, ConfigError, DataError, MissingPackageError
from hw_base.metrics import count_edits
from hw_base.registry import METRICS
from hw_base.trained import load_recognizer
from hw_tts.metrics import transcripts
from hw_tts.metrics.base import Pair
from tests.hw_tts.metrics.test_world import figure, voice
from tests.recognizers import save_random

RATE = 16000


def made(name, **arguments):
    return build("metrics.x", Component(type=name, args=arguments), METRICS)


def matched(reference, synthesized, rate=RATE):
    return Pair(reference, synthesized, rate, matched=True)


def noisy(x, level):
    return x + level * torch.randn(len(x), generator=torch.Generator().manual_seed(4))


# name -> (arguments, optimum, whether more is better)
BOUNDS = {"LogMelL1": (0.0, False), "MultiResolutionSTFT": (0.0, False), "STOI": (1.0, True)}


@pytest.mark.parametrize("name", list(BOUNDS))
def test_matched_metrics_order_distortions(name):
    optimum, more = BOUNDS[name]
    x = torch.cat([voice(f0) for f0 in (120.0, 150.0, 130.0)])
    figures = [figure(made(name), matched(x, noisy(x, level))) for level in (0.0, 0.01, 0.1)]
    assert figures[0] == pytest.approx(optimum, abs=1e-6)
    assert figures == sorted(figures, reverse=more)
    assert len(set(figures)) == 3


def test_log_mel_of_twice_as_loud_is_log_two():
    x = voice()
    assert figure(made("LogMelL1", eps=1e-12), matched(x, 2 * x)) == pytest.approx(math.log(2), abs=1e-5)
    assert figure(made("LogMelL1"), matched(torch.zeros(8000), torch.zeros(8000))) == 0.0


def test_log_mel_of_unmatched_pairs_is_warped():
    """A longer vowel is nearly the same vowel: far less than the distance of its frames one by one."""
    x = torch.cat([voice(seconds=0.4), voice(seconds=0.4, formants=(300.0, 2300.0))])
    y = torch.cat([voice(seconds=0.8), voice(seconds=0.4, formants=(300.0, 2300.0))])
    warped = figure(made("LogMelL1"), Pair(x, y, RATE))
    frame_by_frame = figure(made("LogMelL1"), matched(x, y[: len(x)]))
    assert warped < 0.5 * frame_by_frame
    assert figure(made("LogMelL1"), Pair(x, x, RATE)) == 0.0


def test_stft_distance_is_the_formula():
    x, y = voice(), noisy(voice(), 0.02)
    metric = made("MultiResolutionSTFT", resolutions=[[256, 64, 256]])
    window = torch.hann_window(256)
    a, b = (torch.stft(w, 256, 64, window=window, return_complex=True).abs().clamp(min=1e-7) for w in (x, y))
    expected = (a - b).square().sum().sqrt() / a.square().sum().sqrt() + (a / b).log().abs().mean()
    assert figure(metric, matched(x, y)) == pytest.approx(float(expected), rel=1e-5)


def test_metrics_that_need_equal_timing_skip_other_pairs():
    x, y = voice(), voice(seconds=1.0)
    for name in ("MultiResolutionSTFT", "STOI"):
        metric = made(name)
        metric.update(Pair(x, y, RATE))
        metric.update(matched(torch.cat([x, x]), torch.cat([x, x])))
        assert metric.details()["pairs"] == 1
        assert metric.details()["skipped"] == 1
        assert metric.compute() == pytest.approx(BOUNDS[name][0], abs=1e-6)
        metric.reset()
        metric.update(Pair(x, y, RATE))
        assert math.isnan(metric.compute())
        with pytest.raises(DataError, match="said to have the timing of the recording"):
            metric.update(matched(x, y))


@pytest.mark.parametrize("name", ["MultiResolutionSTFT", "STOI"])
@pytest.mark.parametrize("silence", [0.0, 1e-5, 5e-4])
def test_a_silent_recording_does_not_decide_the_mean(name, silence):
    x, y = voice(), noisy(voice(), 0.02)
    metric = made(name)
    metric.update(matched(x, y))
    alone = metric.compute()
    metric.update(matched(silence * torch.sign(torch.randn_like(x)), y))
    assert metric.details()["skipped"] == 1
    assert metric.compute() == alone


def test_stoi_of_too_little_speech_is_no_number():
    metric = made("STOI")
    for pair in (matched(voice()[:2000], voice()[:2000]), matched(torch.zeros(RATE), torch.zeros(RATE))):
        metric.update(pair)
    assert metric.details()["skipped"] == 2


def with_durations(reference, predicted):
    both = [None if d is None else torch.tensor(d) for d in (reference, predicted)]
    x = torch.zeros(4)
    return Pair(x, x, 22050, reference_durations=both[0], durations=both[1], utterance_id="u3")


def test_duration_error():
    pairs = [with_durations([3, 0, 5], [1, 2, 5]), with_durations([10], [10]), with_durations(None, [1])]
    assert figure(made("DurationError"), *pairs) == pytest.approx((2 + 2 + 0 + 0) / 4)
    milliseconds = 1000 * 256 / 22050
    assert figure(made("DurationError", hop_length=256), *pairs) == pytest.approx(milliseconds)
    metric = made("DurationError")
    metric.update(pairs[2])
    assert metric.details()["skipped"] == 1
    with pytest.raises(DataError, match="utterance 'u3': 1 durations were predicted and 2 belong"):
        metric.update(with_durations([1, 2], [3]))


def test_speaking_rate_error():
    x = torch.zeros(100)
    pairs = [Pair(x, torch.zeros(n), RATE) for n in (100, 80, 130)]
    assert figure(made("SpeakingRateError"), *pairs) == pytest.approx((0 + 0.2 + 0.3) / 3)
    assert math.isnan(figure(made("SpeakingRateError"), Pair(torch.zeros(0), x, RATE)))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(save_random(tmp_path_factory.mktemp("metrics") / "model.pth"))


def test_error_rates_against_a_plain_count(path, monkeypatch):
    recognizer = load_recognizer(path)
    pairs = [Pair(voice(f0), voice(f0 + 20), RATE, text=f"Text, number {i}!") for i, f0 in enumerate((110, 130, 170))]
    texts = [f"text number {i}" for i in range(3)]  # digits are outside this vocabulary, and count as errors
    heard = recognizer.transcribe_batch([pair.synthesized for pair in pairs], RATE)
    said = recognizer.transcribe_batch([pair.reference for pair in pairs], RATE)
    calls, kind = [], type(recognizer)
    hear = kind.transcribe_batch
    monkeypatch.setattr(kind, "transcribe_batch", lambda self, w, rate: calls.append(len(w)) or hear(self, w, rate))
    metrics = {name: made(name, recognizer=path, device="cpu") for name in ("SynthesisCER", "SynthesisWER")}
    for name, split in (("SynthesisCER", list), ("SynthesisWER", str.split)):
        edits = [count_edits(split(a), split(b)) for a, b in zip(texts, heard, strict=True)]
        expected = sum(e.distance for e in edits) / sum(e.references for e in edits)
        assert expected > 0
        assert figure(metrics[name], *pairs) == pytest.approx(expected)
    assert calls == [3]  # both metrics, one transcription
    monkeypatch.undo()
    of_recordings = made("SynthesisCER", recognizer=path, audio="reference", device="cpu")
    edits = [count_edits(a, b) for a, b in zip(texts, said, strict=True)]
    assert figure(of_recordings, *pairs) == pytest.approx(
        sum(e.distance for e in edits) / sum(e.references for e in edits)
    )


def test_what_is_understood_has_no_errors(path):
    waveforms = [voice(f0) for f0 in (110.0, 140.0)]
    texts = load_recognizer(path).transcribe_batch(waveforms, RATE)
    pairs = [Pair(w, w, RATE, text=text) for w, text in zip(waveforms, texts, strict=True)]
    assert all(texts)
    for name in ("SynthesisCER", "SynthesisWER"):
        assert figure(made(name, recognizer=path, device="cpu"), *pairs) == 0.0


def test_sums_hold_what_waits(path, monkeypatch):
    """Processes add up the sums before the figure is computed; a prototype is copied before it is used."""
    metric = copy.deepcopy(made("SynthesisCER", recognizer=path, device="cpu"))
    assert math.isnan(metric.compute())
    metric.update(Pair(voice(), voice(), RATE, text="a word"))
    assert metric.totals[-1] == 1
    metric.totals = 2 * metric.totals
    rate = metric.compute()
    assert metric.details()["pairs"] == 2
    metric.reset()
    metric.update(Pair(voice(), voice(), RATE, text="a word"))
    metric.reset()
    assert metric.totals.tolist() == [0.0] * 6
    monkeypatch.setattr(transcripts, "BATCH_SIZE", 2)
    for sample_rate in (RATE, 8000, RATE):
        metric.update(Pair(voice(), voice(), sample_rate, text="a word"))
    assert [len(waiting) for waiting in metric._waiting.values()] == [1]
    assert metric.details()["pairs"] == 3
    assert rate > 0


def test_a_wrong_recognizer_is_found_out_at_once(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        made("SynthesisCER", recognizer=str(tmp_path / "gone.pth"))


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("SpeakerSimilarity", "resemblyzer", "pip install Resemblyzer"),
        ("DNSMOS", "speechmos", "pip install speechmos"),
        ("STOI", "pystoi", "pip install pystoi"),
    ],
)
def test_absent_packages_are_named(name, module, package, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=f"{name} needs the package.*{package}$"):
        made(name)


def test_arguments_that_cannot_be():
    with pytest.raises(ConfigError, match="leaves gaps"):
        made("LogMelL1", hop_length=2000)
    with pytest.raises(ConfigError, match="win_length of 600 does not fit"):
        made("MultiResolutionSTFT", resolutions=[[512, 100, 600]])


@pytest.mark.slow
def test_speaker_similarity(real_data):
    pytest.importorskip("resemblyzer", reason="Resemblyzer is not installed")
    one, same, other = utterances(real_data, "19", "19", "26")
    metric = made("SpeakerSimilarity")
    assert figure(metric, Pair(one, one, RATE)) == pytest.approx(1.0, abs=1e-5)
    assert figure(metric, Pair(one, same, RATE)) > figure(metric, Pair(one, other, RATE))
    metric.update(Pair(one, torch.zeros(RATE), RATE))
    assert metric.details()["skipped"] == 1


@pytest.mark.slow
def test_dnsmos(real_data):
    pytest.importorskip("speechmos", reason="speechmos is not installed")
    (clean,) = utterances(real_data, "19")
    figures = [figure(made("DNSMOS"), Pair(clean, noisy(clean, level), RATE)) for level in (0.0, 0.02, 0.2)]
    assert 5.0 > figures[0] > figures[1] > figures[2] > 1.0
    reference = made("DNSMOS", audio="reference")
    assert figure(reference, Pair(clean, noisy(clean, 0.2), RATE)) == figures[0]
    assert math.isnan(figure(made("DNSMOS"), Pair(clean, torch.zeros(0), RATE)))


def utterances(real_data, *speakers):
    from hw_base.audio import io as audio

    taken = []
    for i, speaker in enumerate(speakers):
        files = sorted((real_data / "LibriSpeech" / "train-clean-100" / speaker).rglob("*.flac"))
        taken.append(audio.load(files[7 * i])[0][: 5 * RATE])
    return taken

"""Voices that are told apart by their statistics."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch

from hw_base.audio import io as audio
from hw_tts.metrics.base import Pair
from hw_tts.metrics.timbre import TimbreSimilarity, voice_statistics
from tests.hw_tts.metrics.test_world import figure, voice

SECONDS = 4


def test_identity_pitch_and_vocal_tract():
    x = voice(120.0)
    same = figure(TimbreSimilarity(), Pair(x, x, 16000))
    higher = figure(TimbreSimilarity(), Pair(x, voice(180.0), 16000))
    other = figure(TimbreSimilarity(), Pair(x, voice(220.0, formants=(400.0, 2500.0)), 16000))
    assert same == pytest.approx(1.0)
    assert same > higher > other


def test_nothing_voiced_is_no_number():
    metric = TimbreSimilarity()
    metric.update(Pair(voice(), torch.zeros(16000), 16000))
    assert metric.details()["skipped"] == 1
    assert math.isnan(metric.compute())


@pytest.mark.parametrize("rate", [22050, 48000])
def test_the_rate_makes_little_difference(rate, real_data):
    (file, *_) = sorted((real_data / "LibriSpeech" / "train-clean-100" / "26").rglob("*.flac"))
    waveform = audio.load(file)[0][: SECONDS * 16000]
    a = voice_statistics(waveform, 16000)
    b = voice_statistics(audio.resample(waveform, 16000, rate), rate)
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.99


def test_speakers_are_told_apart(real_data):
    """Of 7 speakers the constants were not taken from; cosines as the metric gives them."""
    folders = [real_data / "LibriSpeech" / "train-clean-100" / s for s in ("19", "26", "27")]
    vctk = real_data / "VCTK-Corpus-0.92"
    folders += [folder for folder in sorted(vctk.rglob("p22[5-8]")) if any(folder.glob("*.*a*"))]
    assert len(folders) == 7
    statistics = []
    for folder in folders:
        files = sorted(file for file in folder.rglob("*") if file.suffix in (".flac", ".wav"))
        for file in files[:: max(1, len(files) // 3)][:3]:
            waveform, rate = audio.load(file)
            x = voice_statistics(waveform[: SECONDS * rate], rate)
            statistics.append((folder, x / np.linalg.norm(x)))
    same, other = [], []
    for (s, a), (t, b) in combinations(statistics, 2):
        if s.parts[-2] == t.parts[-2]:  # within a corpus, so that the microphone is no help
            (same if s == t else other).append(a @ b)
    assert len(same) == 21
    wins = np.mean([x > np.array(other) for x in same])
    assert wins > 0.95
    assert np.median(same) > np.median(other) + 0.4

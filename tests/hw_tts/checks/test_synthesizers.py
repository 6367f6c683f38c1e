"""Wrong copies of a synthesizer: each is caught, by the property that it breaks."""

import pytest
import torch
from torch.nn import functional as F

from hw_base.checks import Candidate, broken
from hw_base.checks.examples import example_args
from hw_tts.checks.synthesizers import SYNTHESIZER
from hw_tts.models.fastspeech2 import FastSpeech2

SIZES = example_args("models", "FastSpeech2")


class ColorsThePadding(FastSpeech2):
    def synthesize(self, *args, **controls):
        out = super().synthesize(*args, **controls)
        return {**out, "spectrogram": out["spectrogram"] - 4.0}


class LengthsOfTheBatch(FastSpeech2):
    def synthesize(self, *args, **controls):
        out = super().synthesize(*args, **controls)
        length = out["spectrogram_length"]
        return {**out, "spectrogram_length": torch.full_like(length, int(length.max()))}


class AttendsToPadding(FastSpeech2):
    def synthesize(self, tokens, tokens_length, *args, **controls):
        out = super().synthesize(tokens, tokens_length, *args, **controls)
        hint = 0.01 * tokens.float().mean(1)[:, None, None]
        inside = torch.arange(out["spectrogram"].shape[2]) < out["spectrogram_length"][:, None, None]
        return {**out, "spectrogram": out["spectrogram"] + hint * inside}


class PaddingInTraining(FastSpeech2):
    def forward(self, tokens, **batch):
        out = super().forward(tokens, **batch)
        predicted = out["spectrogram_predicted"] + 0.01 * tokens.float().mean(1)[:, None, None]
        return {**out, "spectrogram_predicted": predicted}


class DropsInEvaluation(FastSpeech2):
    def synthesize(self, *args, **controls):
        out = super().synthesize(*args, **controls)
        return {**out, "spectrogram": F.dropout(out["spectrogram"], 0.1)}


class DetachesDurations(FastSpeech2):
    def forward(self, **batch):
        out = super().forward(**batch)
        return {**out, "log_durations_predicted": out["log_durations_predicted"].detach()}


class ForgetsStatistics(FastSpeech2):
    mean = 0.0

    def set_statistics(self, statistics):
        super().set_statistics(statistics)
        self.mean = statistics["pitch_mean"]

    def synthesize(self, *args, **controls):
        out = super().synthesize(*args, **controls)
        return {**out, "pitch": out["pitch"] + self.mean}


class OverflowsInHalf(FastSpeech2):
    def synthesize(self, *args, **controls):
        out = super().synthesize(*args, **controls)
        large = torch.full((1, 8), 300.0) @ torch.full((8, 1), 300.0)
        return {**out, "spectrogram": out["spectrogram"] * (large / large)}


class OneVoice(FastSpeech2):
    def synthesize(self, tokens, tokens_length, speaker_id=None, **controls):
        return super().synthesize(tokens, tokens_length, torch.zeros_like(speaker_id), **controls)


class DeafToPitch(FastSpeech2):
    def synthesize(self, *args, pitch=1.0, **controls):
        return super().synthesize(*args, **controls)


class SpeedMultiplies(FastSpeech2):
    def synthesize(self, *args, speed=1.0, **controls):
        return super().synthesize(*args, speed=1.0 / speed, **controls)


class LogarithmsAreFrames(FastSpeech2):
    """Predicts d where log(d + 1) is meant."""

    def forward(self, **batch):
        out = super().forward(**batch)
        return {**out, "log_durations_predicted": out["log_durations_predicted"].expm1()}


MUTANTS = {
    ColorsThePadding: "speech has its name and shape and ends with zeros",
    LengthsOfTheBatch: "speech lasts as long as its durations",
    AttendsToPadding: "an utterance alone equals itself in a padded batch",
    PaddingInTraining: "an utterance alone equals itself in a padded batch",
    DropsInEvaluation: "without noise the same is said again",
    DetachesDurations: "a gradient reaches every parameter",
    ForgetsStatistics: "the state makes another model equal",
    OverflowsInHalf: "half precision is finite",
    OneVoice: "another speaker sounds different",
    DeafToPitch: "controls are followed or refused",
    SpeedMultiplies: "one batch is learned and spoken at its speed",
    LogarithmsAreFrames: "one batch is learned and spoken at its speed",
}


def test_the_copied_model_is_right():
    assert broken(SYNTHESIZER.check(Candidate("FastSpeech2", FastSpeech2, SIZES))) == []


@pytest.mark.parametrize(("mutant", "name"), MUTANTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_synthesizer_is_caught(mutant, name):
    assert SYNTHESIZER[name].check(Candidate(mutant.__name__, mutant, SIZES)).holds is False


def test_every_property_has_a_wrong_copy():
    assert set(MUTANTS.values()) == {one.name for one in SYNTHESIZER.properties}

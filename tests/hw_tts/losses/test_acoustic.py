import math

import pytest
import torch

from hw_base.errors import ConfigError
from hw_base.nn.losses import SumAndCount
from hw_base.registry import LOSSES
from hw_tts.losses.acoustic import DurationLoss, EnergyLoss, PitchLoss, SpectrogramLoss

GARBAGE = 1e9


def value(mean):
    assert isinstance(mean, SumAndCount)
    return (mean.total / mean.count).item()


def test_are_registered():
    for loss in (SpectrogramLoss, DurationLoss, PitchLoss, EnergyLoss):
        assert LOSSES[loss.__name__] is loss


@pytest.mark.parametrize(
    ("norm", "expected"), [("l1", (1 + 2 + 3 + 0 + 4 + 2) / 6), ("mse", (1 + 4 + 9 + 0 + 16 + 4) / 6)]
)
@pytest.mark.parametrize("output", ["predicted", "refined"])
def test_spectrogram_loss_counts_valid_frames(norm, expected, output):
    target = torch.tensor([[[0.0, 0.0], [1.0, 1.0]], [[2.0, GARBAGE], [3.0, GARBAGE]]])
    guess = torch.tensor([[[1.0, -2.0], [4.0, 1.0]], [[6.0, 0.0], [1.0, 0.0]]])
    batch = {"spectrogram": target, "spectrogram_length": torch.tensor([2, 1]), f"spectrogram_{output}": guess}
    mean = SpectrogramLoss(norm, output)(**batch)
    assert value(mean) == pytest.approx(expected)
    assert mean.count == 6


def test_spectrogram_loss_without_postnet():
    batch = {"spectrogram": torch.zeros(1, 2, 3), "spectrogram_length": torch.tensor([3])}
    with pytest.raises(
        ConfigError, match=r"needs 'spectrogram_refined', .* gives \['spectrogram_predicted'\]; .*postnet"
    ):
        SpectrogramLoss(output="refined")(**batch, spectrogram_predicted=torch.zeros(1, 2, 3))


@pytest.mark.parametrize("norm", ["l1", "mse"])
@pytest.mark.parametrize("domain", ["log", "linear"])
def test_duration_loss(norm, domain):
    durations = torch.tensor([[0, 3, 10], [4, 99, 99]])
    predicted = torch.tensor([[0.5, 1.0, 2.0], [3.0, GARBAGE, GARBAGE]])
    key = "log_durations_predicted" if domain == "log" else "durations_predicted"
    terms = []
    for row, guesses, n in zip(durations.tolist(), predicted.tolist(), (3, 1), strict=True):
        for d, guess in zip(row[:n], guesses[:n], strict=True):
            difference = guess - (math.log(d + 1) if domain == "log" else d)
            terms.append(abs(difference) if norm == "l1" else difference**2)
    mean = DurationLoss(norm, domain)(durations=durations, tokens_length=torch.tensor([3, 1]), **{key: predicted})
    assert value(mean) == pytest.approx(sum(terms) / 4)


def test_duration_loss_in_the_other_domain():
    batch = {"durations": torch.ones(1, 2), "tokens_length": torch.tensor([2])}
    with pytest.raises(
        ConfigError, match=r"needs 'log_durations_predicted'.*gives.*durations_predicted.*duration_domain"
    ):
        DurationLoss()(**batch, durations_predicted=torch.ones(1, 2))


@pytest.mark.parametrize(("loss", "name"), [(PitchLoss, "pitch"), (EnergyLoss, "energy")])
@pytest.mark.parametrize(("norm", "expected"), [("l1", 4 / 3), ("mse", 6 / 3)])
def test_variance_losses(loss, name, norm, expected):
    batch = {
        f"{name}_predicted": torch.tensor([[1.0, 2.0, GARBAGE], [0.0, GARBAGE, 0.0]]),
        f"{name}_target": torch.tensor([[0.0, 1.0, 0.0], [-2.0, 0.0, GARBAGE]]),
        "variance_length": torch.tensor([2, 1]),
    }
    assert value(loss(norm)(**batch)) == pytest.approx(expected)


@pytest.mark.parametrize(("loss", "name"), [(PitchLoss, "pitch"), (EnergyLoss, "energy")])
def test_variance_losses_of_a_model_that_predicts_none(loss, name):
    batch = {"spectrogram_predicted": torch.zeros(1, 2, 3), "tokens_length": torch.tensor([2])}
    message = rf"{loss.__name__} needs '{name}_predicted', .* gives \['spectrogram_predicted'\]; .*FastSpeech2"
    with pytest.raises(ConfigError, match=message):
        loss()(**batch)


def test_half_precision_is_measured_in_single():
    guess = torch.full((1, 1, 1000), -8.0, dtype=torch.bfloat16)
    batch = {"spectrogram": torch.full((1, 1, 1000), -8.01), "spectrogram_length": torch.tensor([1000])}
    mean = SpectrogramLoss()(**batch, spectrogram_predicted=guess)
    assert mean.total.dtype == torch.float32
    assert value(mean) == pytest.approx(0.01, rel=1e-3)

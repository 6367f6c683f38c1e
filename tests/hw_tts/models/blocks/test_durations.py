import math

import pytest
import torch

from hw_base.errors import ConfigError
from hw_base.nn.layers import length_mask
from hw_tts.models.blocks.durations import duration_target, whole_durations


@pytest.mark.parametrize("domain", ["log", "linear"])
def test_targets_come_back_as_the_durations(domain):
    durations = torch.tensor([[0, 1, 2, 3, 870, 74, 5000]])
    target = duration_target(durations, domain)
    assert target.dtype == torch.float32
    assert torch.equal(whole_durations(target, torch.ones(1, 7, dtype=torch.bool), domain), durations)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.0, 1.7])
def test_whole_durations_token_by_token(speed):
    torch.manual_seed(0)
    predicted, length = torch.rand(4, 6) * 3, torch.tensor([6, 1, 3, 5])
    out = whole_durations(predicted, length_mask(length, 6), "log", speed)
    for b in range(4):
        for i in range(6):
            frames = (math.exp(predicted[b, i].item()) - 1) / speed
            assert out[b, i] == (max(round(frames), 0) if i < length[b] else 0)


def test_each_utterance_has_a_frame():
    predicted = torch.tensor([[-3.0, -0.1, 0.2, 9.0], [-3.0, -0.1, 0.2, 9.0]])
    out = whole_durations(predicted, length_mask(torch.tensor([3, 1]), 4), "log")
    assert out.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_negative_and_huge_predictions_stay_usable():
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert whole_durations(torch.tensor([[-5.0, 2.0]]), mask, "linear").tolist() == [[0, 2]]
    assert whole_durations(torch.tensor([[100.0, 1.0]]), mask, "log")[0, 0] < 10_000


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_impossible_speed(speed):
    with pytest.raises(ConfigError, match="speed: expected a factor above 0"):
        whole_durations(torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool), "log", speed)

"""Watchers of synthesis: each meets its fault, and healthy batches."""

import pytest
import torch

from hw_base.watch.diagnosis import Seen
from hw_tts.watchers import ALIGNMENT_PHASE, Adversaries, Alignment, Variances

LENGTH = torch.tensor([30, 30])


def names(watcher, batch=None, values=None, first=0, steps=12):
    found = set()
    for i in range(steps):
        found |= {one.name for one in watcher.look(Seen(first + i, 10**4, values or {}, {}, batch or {}))}
    return found


def test_an_alignment_that_jumps_is_named_once_it_should_not():
    smooth = torch.eye(10).repeat_interleave(3, 0).expand(2, 30, 10)
    jumping = {"alignment_log_probs": smooth.flip(1), "spectrogram_length": LENGTH}
    assert names(Alignment(), {**jumping, "alignment_log_probs": smooth}, first=ALIGNMENT_PHASE) == set()
    assert names(Alignment(), jumping, first=ALIGNMENT_PHASE) == {"alignment_not_monotonic"}
    assert names(Alignment(), jumping) == set()


def good():
    draw = torch.Generator().manual_seed(0)
    pitch, energy = torch.randn(2, 2, 30, generator=draw)
    return {
        "pitch_target": pitch,
        "energy_target": energy,
        "variance_length": LENGTH,
        "pitch": 150 + 20 * pitch,
        "durations": torch.full((2, 10), 3),
        "spectrogram_length": LENGTH,
        "log_durations_predicted": torch.ones(2, 10),
    }


@pytest.mark.parametrize(
    ("key", "change", "expected"),
    [
        ("pitch", lambda x: x, set()),
        ("pitch_target", lambda x: 150 + 20 * x, {"pitch_out_of_range"}),
        ("energy_target", lambda x: 0 * x, {"energy_out_of_range"}),
        ("pitch", lambda x: x.log(), {"pitch_out_of_range"}),
        ("durations", lambda x: x + 1, {"durations_wrong"}),
        ("log_durations_predicted", lambda x: 20 * x, {"durations_out_of_range"}),
    ],
)
def test_what_no_recording_has_is_named(key, change, expected):
    assert names(Variances(), {**good(), key: change(good()[key])}) == expected


def test_a_discriminator_that_wins_is_named():
    watcher = Adversaries()
    assert names(watcher, values={"discriminator/adversarial": 2.0, "generator/adversarial": 1.5}) == set()
    winning = {"discriminator/adversarial": 0.01, "generator/adversarial": 2.9}
    assert names(watcher, values=winning) == {"discriminator_wins"}

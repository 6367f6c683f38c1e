import math

import numpy as np
import pytest
import torch

from hw_tts.features.statistics import RunningStatistics, collect, collect_by_speaker, without_outliers


def utterance(seed: int, n_frames: int, level: float = 200.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "pitch": level + 10.0 * (torch.rand(n_frames, generator=generator) - 0.5),
        "energy": 20.0 + 5.0 * torch.rand(n_frames, generator=generator),
        "voiced": torch.rand(n_frames, generator=generator) > 0.4,
    }


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_running_statistics_equal_numpy(offset):
    generator = torch.Generator().manual_seed(0)
    pieces = [offset + torch.randn(n, generator=generator, dtype=torch.float64) for n in (1, 7, 0, 1000, 33)]
    statistics = RunningStatistics()
    for piece in pieces:
        statistics.update(piece)
    values = torch.cat(pieces).numpy()
    assert statistics.count == len(values)
    assert statistics.mean == pytest.approx(values.mean(), rel=1e-14, abs=1e-14)
    assert statistics.std == pytest.approx((values - values.mean()).std(), rel=1e-7)
    assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())


def test_statistics_of_a_split_equal_numpy():
    # Uniform values have no outliers, so plain numpy over all voiced frames is the oracle.
    items = [utterance(seed, n) for seed, n in enumerate((50, 200, 80, 120))]
    found = collect(iter(items))
    pitch = np.concatenate([item["pitch"][item["voiced"]].double().numpy() for item in items])
    energy = np.concatenate([item["energy"].double().numpy() for item in items])
    expected = {
        "pitch_mean": pitch.mean(),
        "pitch_std": pitch.std(),
        "pitch_min": pitch.min(),
        "pitch_max": pitch.max(),
        "pitch_log_mean": np.log(pitch).mean(),
        "pitch_log_std": np.log(pitch).std(),
        "energy_mean": energy.mean(),
        "energy_std": energy.std(),
        "energy_min": energy.min(),
        "energy_max": energy.max(),
    }
    assert found == pytest.approx(expected, rel=1e-12)


def test_an_octave_error_changes_nothing():
    clean, wrong = utterance(0, 400), utterance(0, 400)
    at = int(wrong["voiced"].nonzero()[5])
    wrong["pitch"][at] *= 2
    clean["voiced"][at] = False
    found, expected = collect([wrong]), collect([clean])
    assert found["pitch_max"] < 300
    assert found == pytest.approx(expected, rel=1e-12)


def test_fences():
    values = torch.arange(101.0)
    assert torch.equal(without_outliers(torch.cat([values, torch.tensor([-60.0, 160.0])])), values)


def test_speakers_are_kept_apart():
    low, high = utterance(1, 100, level=100.0), utterance(2, 100, level=220.0)
    found = collect_by_speaker([("a", low), ("b", high), ("a", low)])
    assert list(found) == ["a", "b"]
    assert found["a"] == pytest.approx(collect([low]))
    assert found["b"] == pytest.approx(collect([high]))
    assert found["b"]["pitch_mean"] - found["a"]["pitch_mean"] == pytest.approx(120.0, abs=3.0)


def test_voicing_is_not_needed():
    item = {"pitch": torch.tensor([0.0, 100.0, 200.0]), "energy": torch.ones(3)}
    assert collect([item])["pitch_mean"] == 150.0


def test_nothing_voiced_and_constant_energy():
    found = collect([{"pitch": torch.zeros(4), "energy": torch.full((4,), 2.0)}])
    assert (found["pitch_mean"], found["pitch_std"], found["energy_mean"], found["energy_std"]) == (0.0, 1.0, 2.0, 1.0)
    assert all(math.isfinite(value) for value in found.values())

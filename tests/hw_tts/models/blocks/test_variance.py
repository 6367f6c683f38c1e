import math

import pytest
import torch
from torch.nn import functional as F

from hw_base.errors import ConfigError
from hw_base.nn.layers import length_mask
from hw_tts.models.blocks.variance import (
    ContinuousEmbedding,
    FourierEmbedding,
    QuantizedEmbedding,
    Variance,
    VariancePredictor,
)

HERTZ = {"pitch_mean": 200.0, "pitch_std": 40.0, "pitch_min": 80.0, "pitch_max": 400.0}


def variance(embedding=None, log=False, name="pitch"):
    return Variance(name, VariancePredictor(4, 6), embedding or ContinuousEmbedding(4), log)


@pytest.mark.parametrize("norm_first", [False, True])
@torch.no_grad()
def test_predictor_equals_the_formula_and_ignores_padding(norm_first):
    torch.manual_seed(0)
    predictor = VariancePredictor(4, 6, kernel_size=3, norm_first=norm_first).eval()
    x, length = torch.randn(3, 7, 4), torch.tensor([7, 1, 4])
    mask = length_mask(length, 7)
    out = predictor(torch.where(mask[..., None], x, 1e4), mask)
    for i, n in enumerate(length):
        y = x[i, :n]
        for conv in predictor.convs:
            y = F.conv1d(y.T, conv.weight, conv.bias, padding=1).T
            y = F.layer_norm(y, (6,)).relu() if norm_first else F.layer_norm(y.relu(), (6,))
        expected = (y @ predictor.out.weight.T + predictor.out.bias)[:, 0]
        torch.testing.assert_close(out[i, :n], expected, atol=1e-5, rtol=0)
    assert (out[~mask] == 0).all()


def test_predictor_answers_in_single_precision():
    predictor, x = VariancePredictor(4, 6).eval(), torch.randn(2, 7, 4)
    mask = torch.ones(2, 7, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = predictor(x, mask)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, predictor(x, mask), atol=0.05, rtol=0)
    assert not torch.equal(out, out.bfloat16().float())


def test_even_kernels_are_refused():
    with pytest.raises(ConfigError, match="predictor_kernel_size: 4 is even"):
        VariancePredictor(4, 6, kernel_size=4)


def test_linear_bins():
    embedding = QuantizedEmbedding(3, n_bins=5)
    v = variance(embedding)
    v.set_statistics(HERTZ)
    hertz = torch.tensor([[10.0, 79.0, 81.0, 186.0, 188.0, 292.0, 294.0, 399.0, 401.0, 9999.0]])
    expected = [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]  # boundaries 80, 186.7, 293.3, 400
    vectors = v.embed(v.normalize(hertz), torch.ones_like(hertz, dtype=torch.bool))
    assert torch.equal(vectors[0], embedding.table.weight[expected])


@pytest.mark.parametrize("log", [False, True])
def test_log_bins_lie_evenly_between_logarithms(log):
    v = variance(QuantizedEmbedding(3, n_bins=4, bins="log"), log)
    v.set_statistics({**HERTZ, "pitch_min": 100.0})
    assert v.denormalize(v.embedding.boundaries).tolist() == pytest.approx([100, 200, 400], rel=1e-4)


def test_without_a_range_bins_reach_four_deviations():
    v = variance(QuantizedEmbedding(3, n_bins=6))
    v.set_statistics({"pitch_mean": 200.0, "pitch_std": 40.0})
    assert v.embedding.boundaries.tolist() == pytest.approx([-4, -2, 0, 2, 4])


def test_continuous_embedding_ignores_padding():
    torch.manual_seed(0)
    embedding, values = ContinuousEmbedding(4, 3), torch.randn(2, 6)
    mask = length_mask(torch.tensor([6, 3]), 6)
    out = embedding(torch.where(mask, values, torch.nan), mask)
    alone = F.conv1d(values[1:, None, :3], embedding.weight, embedding.bias, padding=1)[0].T
    torch.testing.assert_close(out[1, :3], alone)


def test_fourier_embedding_sees_waves_of_the_values_and_ignores_padding():
    torch.manual_seed(0)
    embedding, values = FourierEmbedding(4, n_waves=3), torch.randn(2, 6)
    mask = length_mask(torch.tensor([6, 3]), 6)
    out = embedding(torch.where(mask, values, torch.nan), mask)
    x = values[1, :3]
    waves = [x, *(torch.sin(2 * math.pi * x / length) for length in (8, 4, 2))]
    waves += [torch.cos(2 * math.pi * x / length) for length in (8, 4, 2)]
    alone = F.conv1d(torch.stack(waves)[None], embedding.weight, embedding.bias, padding=1)[0].T
    torch.testing.assert_close(out[1, :3], alone)


@pytest.mark.parametrize("log", [False, True])
def test_normalization_can_be_undone(log):
    v = variance(log=log)
    v.set_statistics(HERTZ)
    hertz = torch.tensor([80.0, 123.0, 200.0, 390.0])
    torch.testing.assert_close(v.denormalize(v.normalize(hertz)), hertz, atol=1e-3, rtol=1e-5)
    assert v.normalize(hertz)[2].item() == pytest.approx(0.0, abs=0.2)


def test_logarithms_of_a_log_normal_voice_become_standard():
    torch.manual_seed(0)
    hertz = torch.empty(200_000).log_normal_(5.2, 0.3)
    given = {"pitch_mean": hertz.mean().item(), "pitch_std": hertz.std().item(), "pitch_min": 1e-3, "pitch_max": 1e4}
    logs = {"pitch_log_mean": hertz.log().mean().item(), "pitch_log_std": hertz.log().std().item()}
    for statistics, tolerance in ((given, 0.02), ({**given, **logs}, 1e-3)):
        v = variance(log=True)
        v.set_statistics(statistics)
        values = v.normalize(hertz)
        assert values.mean().item() == pytest.approx(0.0, abs=tolerance)
        assert values.std().item() == pytest.approx(1.0, abs=tolerance)


def test_an_utterance_without_voice_has_a_finite_logarithm():
    v = variance(log=True)
    v.set_statistics(HERTZ)
    assert torch.equal(v.normalize(torch.zeros(2)), v.normalize(torch.tensor([80.0, 80.0])))


def test_statistics_travel_in_the_state():
    a, b = (variance(QuantizedEmbedding(3, 8), log=True) for _ in range(2))
    a.set_statistics(HERTZ)
    b.load_state_dict(a.state_dict())
    values = torch.tensor([[90.0, 150.0, 333.0]])
    assert torch.equal(a.normalize(values), b.normalize(values))
    assert torch.equal(a.embedding.boundaries, b.embedding.boundaries)


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ({"pitch_mean": 1.0}, r"statistics of pitch: \['std'\] missing; found \['pitch_mean'\]"),
        ({"pitch_mean": 1.0, "pitch_std": 0.0}, "is the value constant"),
        ({"pitch_mean": math.nan, "pitch_std": 1.0}, "mean nan"),
    ],
)
def test_unusable_statistics(statistics, message):
    with pytest.raises(ConfigError, match=message):
        variance().set_statistics(statistics)

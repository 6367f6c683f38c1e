import pytest
import torch
from torch import nn

from hw_base.nn import dropout as room
from hw_base.nn.attention import SelfAttention
from hw_base.nn.dropout import Dropout, dropout, random_mask, without_dropout

MANY = 1 << 17


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003, 0.9])
def test_kept_values_are_scaled_by_the_rate_of_the_call(p):
    x = torch.randn(4, MANY)
    y = dropout(x, p)
    kept = y != 0
    rate = 1.0 - float(kept.double().mean())
    scale = (y / x)[kept]
    neighbors = {int(256 * p) / 256, (int(256 * p) + 1) / 256}
    assert float(scale.std()) < 1e-6
    exact = 1.0 - 1.0 / float(scale[0])
    assert any(abs(exact - neighbor) < 1e-6 for neighbor in neighbors)
    assert abs(rate - exact) < 5 * (exact * (1 - exact) / x.numel()) ** 0.5


def test_the_rate_is_exact_over_calls():
    """Bernoulli numbers of 1/256 steps alone would be off by 0.0016 at 0.1; the error of 1,500 calls is 0.00006."""
    x = torch.empty(1 << 14)
    for p in (0.1, 0.2):
        rates = torch.stack([1 - random_mask(x, p)[0].float().mean() for _ in range(1500)])
        assert abs(float(rates.mean()) - p) < 3e-4
    assert float(rates.std()) < 0.006


def test_every_byte_of_a_word_is_random():
    """The highest bit of a signed word is not to be forgotten: every eighth value would be kept too rarely."""
    mask, _ = random_mask(torch.empty(8 * MANY), 0.5)
    rates = mask.view(-1, 8).float().mean(0)
    assert float((rates - 0.5).abs().max()) < 0.5 / MANY**0.5 * 5
    pairs = mask.view(-1, 8).float() - 0.5
    correlation = pairs.T @ pairs / MANY / 0.25 - torch.eye(8)
    assert float(correlation.abs().max()) < 5 / MANY**0.5


def test_two_calls_differ_and_a_seed_repeats():
    x = torch.ones(MANY)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    assert not torch.equal(first, second)
    agreement = float(((first != 0) == (second != 0)).float().mean())
    assert abs(agreement - 0.5) < 0.01
    torch.manual_seed(0)
    assert torch.equal(dropout(x, 0.5), first)


def test_the_state_of_the_generator_is_all_that_a_resumed_run_needs():
    x = torch.ones(MANY)
    dropout(x, 0.3)
    state = torch.get_rng_state()
    expected = dropout(x, 0.3)
    torch.manual_seed(5)
    torch.set_rng_state(state)
    assert torch.equal(dropout(x, 0.3), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_the_gradient_is_the_mask_of_the_forward_pass(dtype):
    x = torch.randn(3, MANY).to(dtype).requires_grad_()
    y = dropout(x, 0.25)
    gradient = torch.randn(3, MANY).to(dtype)
    y.backward(gradient)
    assert y.dtype == x.grad.dtype == dtype
    kept = y.detach() != 0
    scale = (y.detach().double() / x.detach().double())[kept].median()
    tolerance = {torch.bfloat16: 1e-2, torch.float16: 2e-3}.get(dtype, 1e-6)
    torch.testing.assert_close(x.grad, gradient * kept * scale.to(dtype), rtol=tolerance, atol=tolerance)


def test_derivative():
    x = torch.randn(2, 1 << 14, dtype=torch.float64, requires_grad=True)

    def run(x):
        torch.manual_seed(1)
        return dropout(x, 0.5)[:, :4].sum(1)

    assert torch.autograd.gradcheck(run, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, x, fast_mode=True)


def test_shapes_and_orders_in_memory_stay():
    for x in (torch.ones(3, 130, 101), torch.ones(130, 3, 101).transpose(0, 1), torch.ones(4, 5, 100, 101)[..., ::2]):
        y = dropout(x, 0.5)
        assert y.shape == x.shape
        assert set(y.unique().tolist()) <= {0.0, 2.0, 256 / 127}
    x = torch.ones(130, 101, 3).permute(2, 0, 1)
    assert dropout(x, 0.5).stride() == x.stride()


@pytest.mark.parametrize("n", [0, 1, 7, (1 << 14) - 1, (1 << 14) + 3])
def test_any_number_of_values(n):
    y = dropout(torch.ones(n), 0.5)
    assert y.shape == (n,)
    assert ((y == 0) | (y > 1.9)).all()


def test_evaluation_and_rate_zero_change_nothing_and_draw_nothing():
    x, before = torch.randn(MANY), torch.get_rng_state()
    assert dropout(x, 0.0) is x
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("p", [1.0, 0.999])
def test_rates_that_no_byte_expresses_are_torchs(p):
    y = dropout(torch.ones(MANY), p)
    assert abs(float((y == 0).float().mean()) - p) < 1e-3


def test_a_mask_of_a_rate_near_one():
    mask, scale = random_mask(torch.empty(8 * MANY), 0.999)
    assert abs(float(mask.float().mean()) - 0.001) < 2e-4
    assert float(scale) == pytest.approx(1000.0)


def test_the_highest_rate_of_a_byte_keeps_some_whatever_is_drawn(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda size: torch.full(size, 1 - 2**-24))
    mask, scale = random_mask(torch.empty(8 * MANY), 255 / 256)
    assert abs(float(mask.float().mean()) - 1 / 256) < 5e-4
    assert float(scale) == 256


def test_autocast_keeps_the_dtype_it_is_given():
    with torch.autocast("cpu", torch.bfloat16):
        assert dropout(torch.ones(MANY), 0.1).dtype == torch.float32
        assert dropout(torch.ones(MANY).bfloat16(), 0.1).dtype == torch.bfloat16


def test_has_no_state():
    assert not Dropout(0.1).state_dict()
    assert isinstance(Dropout(0.1), nn.Dropout)


def test_dropout_of_every_kind_is_taken_away():
    model = nn.ModuleList([Dropout(0.5), nn.Dropout(0.5), nn.GRU(3, 3, 2, dropout=0.5), SelfAttention(4, 2, 0.5)])
    assert without_dropout(model) is model
    assert [model[0].p, model[1].p, model[2].dropout, model[3].dropout] == [0.0] * 4
    assert dropout(torch.ones(MANY), 0.5).unique().numel() == 2  # and only of this model


def test_few_values_are_drawn_by_torch():
    x = torch.ones(room._FEW - 1)
    torch.manual_seed(3)
    expected = nn.functional.dropout(x, 0.5)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5), expected)

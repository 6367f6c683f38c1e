import pytest
import torch
from torch import nn

from hw_base.nn.gru import computes, gru
from hw_base.nn.layers import BiRNN


def layer(n_inputs=5, n_hidden=7, dtype=torch.float32):
    torch.manual_seed(0)
    return nn.GRU(n_inputs, n_hidden).to(dtype)


def outputs_and_gradients(run, rnn, x, weights):
    """Of ``run(x)``: what comes out, and every gradient of its weighted sum."""
    x = x.clone().requires_grad_()
    rnn.zero_grad()
    y = run(x)
    (y.float() * weights).sum().backward()
    return {"y": y.detach(), "x": x.grad, **{name: p.grad.clone() for name, p in rnn.named_parameters()}}


@pytest.mark.parametrize("n_frames", [1, 2, 4, 5, 8, 60])
def test_outputs_and_gradients_are_those_of_torch(n_frames):
    rnn = layer()
    x, weights = torch.randn(n_frames, 3, 5), torch.randn(n_frames, 3, 7)
    ours = outputs_and_gradients(lambda x: gru(rnn, x), rnn, x, weights)
    theirs = outputs_and_gradients(lambda x: rnn(x)[0], rnn, x, weights)
    for name, expected in theirs.items():
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(ours[name], expected, atol=1e-6 * scale, rtol=0, msg=name)


def test_derivatives_are_right_in_double_precision():
    rnn = layer(2, 3, torch.float64)
    x = torch.randn(6, 2, 2, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(gru(rnn, x), rnn(x)[0])
    parameters = list(rnn.parameters())
    assert torch.autograd.gradcheck(lambda x, *parameters: gru(rnn, x), (x, *parameters))


def test_large_gates_are_saturated_and_finite():
    rnn = layer()
    with torch.no_grad():
        rnn.weight_ih_l0.mul_(1e4)
    x, weights = torch.randn(9, 3, 5), torch.randn(9, 3, 7)
    ours = outputs_and_gradients(lambda x: gru(rnn, x), rnn, x, weights)
    theirs = outputs_and_gradients(lambda x: rnn(x)[0], rnn, x, weights)
    torch.testing.assert_close(ours["y"], theirs["y"], atol=1e-6, rtol=0)
    assert all(torch.isfinite(value).all() for value in ours.values())


def test_autocast_is_as_near_to_single_precision_as_that_of_torch():
    rnn = layer(24, 32)
    x, weights = torch.randn(20, 6, 24), torch.randn(20, 6, 32)
    exact = outputs_and_gradients(lambda x: rnn(x)[0], rnn, x, weights)

    def under_autocast(run):
        with torch.autocast("cpu", torch.bfloat16):
            return outputs_and_gradients(run, rnn, x, weights)

    ours, theirs = under_autocast(lambda x: gru(rnn, x)), under_autocast(lambda x: rnn(x)[0])
    for name, expected in exact.items():
        assert ours[name].dtype == theirs[name].dtype, name
        error, allowed = ((values[name] - expected).abs().max() for values in (ours, theirs))
        assert error <= 1.5 * allowed, name


def test_the_type_of_the_output_under_autocast_is_that_of_the_input():
    rnn = layer()
    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.float32, torch.bfloat16):
            assert gru(rnn, torch.randn(3, 2, 5, dtype=dtype)).dtype == dtype


def test_backward_twice_gives_the_same_twice():
    rnn = layer()
    y = gru(rnn, torch.randn(9, 3, 5)).square().sum()
    first = torch.autograd.grad(y, list(rnn.parameters()), retain_graph=True)
    second = torch.autograd.grad(y, list(rnn.parameters()))
    assert all(map(torch.equal, first, second))


def test_frozen_weights_and_plain_inputs_get_no_gradient():
    rnn = layer()
    rnn.weight_ih_l0.requires_grad_(False)
    x = torch.randn(4, 3, 5)
    gru(rnn, x).sum().backward()
    assert rnn.weight_ih_l0.grad is None
    assert rnn.weight_hh_l0.grad is not None
    with torch.inference_mode():
        torch.testing.assert_close(gru(rnn, x), rnn(x)[0], atol=1e-6, rtol=0)


def test_what_is_left_to_torch():
    x = torch.randn(2, 3, 5)
    assert computes(layer(), x)
    assert computes(layer(dtype=torch.float64), x.double())
    assert not computes(nn.LSTM(5, 7), x)
    assert not computes(layer(), x[:0])
    assert not computes(layer().to("meta"), x.to("meta"))
    assert not computes(layer().bfloat16(), x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert computes(layer(), x)
        assert not computes(layer(dtype=torch.float64), x.double())
    with torch.autocast("cpu", torch.float16):
        assert not computes(layer(), x)


def test_both_directions_run_so_and_keep_their_names(monkeypatch):
    called = []
    monkeypatch.setattr("hw_base.nn.layers.gru", lambda rnn, x: called.append(rnn) or gru(rnn, x))
    net = BiRNN(5, 7)
    net(torch.randn(2, 4, 5), torch.tensor([4, 2]))
    assert called == [net.forward_rnn, net.backward_rnn]
    names = ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    assert list(net.state_dict()) == [f"{rnn}.{name}" for rnn in ("forward_rnn", "backward_rnn") for name in names]

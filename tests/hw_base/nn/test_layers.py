import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from hw_base import distributed
from hw_base.nn.layers import BiRNN, MaskedBatchNorm, length_mask

LENGTH = torch.tensor([7, 1, 4, 6])


def close(a, b, atol=1e-6):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def garbage_behind(x, length):
    """Padding of huge numbers and NaN: none of it may be seen."""
    mask = length_mask(length, x.shape[-1]).view(len(x), *[1] * (x.dim() - 2), -1)
    return torch.where(mask, x, torch.where(torch.rand_like(x) < 0.5, torch.nan, 1e20).to(x.dtype))


def test_length_mask():
    assert length_mask(torch.tensor([2, 0, 3]), 3).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert length_mask(torch.tensor([0]), 0).shape == (1, 0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("length", [LENGTH, torch.full((4,), 7)], ids=["padded", "whole"])
@pytest.mark.parametrize("shape", [(4, 3, 7), (4, 3, 5, 7)])
def test_batch_norm_equals_torch_on_the_valid_frames(shape, length, channels_last):
    torch.manual_seed(0)
    ours, theirs = MaskedBatchNorm(3).double(), nn.BatchNorm1d(3).double()
    nn.init.normal_(theirs.weight)
    nn.init.normal_(theirs.bias)
    ours.load_state_dict(theirs.state_dict())
    mask = length_mask(length, 7)
    for _ in range(3):
        x = torch.randn(shape, dtype=torch.float64) * 3 + 5
        a = garbage_behind(x, length)
        if channels_last:
            a = a.movedim(1, -1).contiguous().movedim(-1, 1)
        a.requires_grad_()
        b = x.clone().requires_grad_()
        pick = b.movedim(1, -1).movedim(-2, 1)[mask]  # valid frames alone: (frames, [F,] C)
        weights = torch.randn(shape, dtype=torch.float64)
        out = ours(a, length)
        expected = theirs(pick.reshape(-1, 3)).view_as(pick)
        valid = out.movedim(1, -1).movedim(-2, 1)
        close(valid[mask], expected)
        assert not valid[~mask].any()
        (out * weights).sum().backward()
        (expected * weights.movedim(1, -1).movedim(-2, 1)[mask]).sum().backward()
        close(a.grad, b.grad)
    close(ours.weight.grad, theirs.weight.grad)
    close(ours.bias.grad, theirs.bias.grad)
    for name, value in theirs.state_dict().items():
        close(ours.state_dict()[name], value)
    ours.eval()
    theirs.eval()
    out = ours(a, length).movedim(1, -1).movedim(-2, 1)
    close(out[mask], theirs(pick.reshape(-1, 3)).view_as(pick))
    assert not out[~mask].any()


@pytest.mark.parametrize("shape", [(3, 2, 4), (3, 4, 2)])
def test_batch_norm_derivative(shape):
    torch.manual_seed(0)
    norm = MaskedBatchNorm(2).double()
    x = torch.randn(shape, dtype=torch.float64)
    x = (x if shape[1] == 2 else x.transpose(1, 2)).requires_grad_()  # the second with channels last in memory
    length = torch.tensor([4, 2, 0])

    def run(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, (x, length))

    assert torch.autograd.gradcheck(run, (x, norm.weight, norm.bias))


def test_batch_norm_keeps_its_precision_far_from_zero():
    x = torch.randn(8, 1, 500, generator=torch.Generator().manual_seed(0)) + 3000
    out = MaskedBatchNorm(1)(x, torch.full((8,), 500))
    exact = (x.double() - x.double().mean()) / x.double().std(correction=0)
    assert float((out - exact).detach().abs().max()) < 2e-3  # float32 holds x itself to 1e-4


@pytest.mark.parametrize("channels_last", [False, True])
def test_batch_norm_of_nothing_changes_no_statistics(channels_last):
    norm = MaskedBatchNorm(3)
    x = torch.randn(2, 5, 3).transpose(1, 2) if channels_last else torch.randn(2, 3, 5)
    out = norm(x.requires_grad_(), torch.zeros(2, dtype=torch.int64))
    out.sum().backward()
    assert not out.any()
    assert not x.grad.any()
    assert not norm.running_mean.any()
    assert (norm.running_var == 1).all()


@pytest.mark.parametrize("channels_last", [False, True])
def test_batch_norm_keeps_half_precision(channels_last):
    x = torch.randn(4, 3, 7).bfloat16()
    x = (x.transpose(1, 2).contiguous().transpose(1, 2) if channels_last else x).requires_grad_()
    norm = MaskedBatchNorm(3)
    out = norm(x, LENGTH)
    out.float().square().sum().backward()
    assert out.dtype == x.grad.dtype == torch.bfloat16
    assert norm.running_mean.dtype == torch.float32
    close(out.float(), MaskedBatchNorm(3)(x.detach().float(), LENGTH), atol=2e-2)


def batch_norm_steps(x, length, weights):
    """Two batches through a batch norm: what came out, and every gradient."""
    norm = MaskedBatchNorm(3).double()  # so that nothing but the sums over processes can differ
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
    x = x.clone().requires_grad_()
    outs = []
    for _ in range(2):
        out = norm(x, length)
        (out.tanh() * weights).sum().backward()
        outs.append(out.detach())
    return outs[1], x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var


def two_process_data():
    generator = torch.Generator().manual_seed(1)
    x, weights = torch.randn(2, 6, 3, 4, 9, generator=generator, dtype=torch.float64)
    return x + 2, torch.tensor([9, 3, 5, 1, 8, 0]), weights


def worker(rank, folder):
    distributed.init_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    part = slice(0, 2) if rank == 0 else slice(2, 6)  # of unequal sizes
    result = batch_norm_steps(*(t[part] for t in two_process_data()))
    torch.save(result, f"{folder}/{rank}.pt")
    distributed.stop()


def test_two_processes_equal_one(tmp_path):
    torch.multiprocessing.spawn(worker, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    out, x_grad, weight_grad, bias_grad, mean, variance = batch_norm_steps(*two_process_data())
    close(torch.cat([first[0], second[0]]), out, atol=1e-9)
    close(torch.cat([first[1], second[1]]), x_grad, atol=1e-9)
    close(first[2] + second[2], weight_grad, atol=1e-9)
    close(first[3] + second[3], bias_grad, atol=1e-9)
    for process in (first, second):
        close(process[4], mean, atol=1e-9)
        close(process[5], variance, atol=1e-9)


def packed(rnn, x, length):
    sequence = pack_padded_sequence(x, length, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(rnn(sequence)[0], batch_first=True, total_length=x.shape[1])[0]


@pytest.mark.parametrize("combine", ["sum", "concat"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("training", [True, False])
def test_rnn_equals_the_packed_one(cell, combine, training):
    torch.manual_seed(0)
    ours = BiRNN(5, 6, cell, combine).train(training)
    theirs = (nn.GRU if cell == "gru" else nn.LSTM)(5, 6, batch_first=True, bidirectional=True).train(training)
    ahead, back = ours.forward_rnn.state_dict(), ours.backward_rnn.state_dict()
    theirs.load_state_dict(ahead | {f"{name}_reverse": value for name, value in back.items()})
    x = torch.randn(4, 7, 5)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    out, expected = ours(a, LENGTH), packed(theirs, b, LENGTH)
    if combine == "sum":
        expected = expected[..., :6] + expected[..., 6:]
    assert out.shape[-1] == ours.n_outputs
    close(out, expected)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    close(a.grad, b.grad)
    for name, parameter in theirs.named_parameters():
        half = ours.backward_rnn if name.endswith("_reverse") else ours.forward_rnn
        torch.testing.assert_close(
            half.get_parameter(name.removesuffix("_reverse")).grad, parameter.grad, atol=1e-6, rtol=1e-5
        )


def test_rnn_ignores_padding():
    torch.manual_seed(0)
    rnn = BiRNN(5, 6)
    x = torch.randn(4, 7, 5)
    other = torch.where(length_mask(LENGTH, 7)[..., None], x, 1e3)
    close(rnn(x, LENGTH), rnn(other, LENGTH))
    assert not rnn(other, torch.zeros(4, dtype=torch.int64)).any()

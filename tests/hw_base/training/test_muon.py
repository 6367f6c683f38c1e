"""Muon: orthogonal updates against the singular value decomposition and torch's own, the rest against AdamW."""

import copy

import pytest
import torch
from torch import nn

from hw_base.config.schema import OptimizerSection
from hw_base.errors import CheckpointError
from hw_base.training.muon import Muon, orthogonal
from hw_base.training.optimization import Optimization


def matrices(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(2, 40, 70), (3, 70, 40), (1, 32, 32)])
def test_singular_vectors_stay_and_singular_values_become_about_1(shape):
    """The polynomial brings them to between 0.68 and 1.21 (Jordan et al. 2024), in so many iterations all of them."""
    x = matrices(*shape)
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    found = orthogonal(x, 6)
    values = (u.mT @ found @ vh.mT).diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.68
    assert values.max() < 1.21
    torch.testing.assert_close(found, u @ torch.diag_embed(values) @ vh, atol=2e-5, rtol=0)
    assert torch.equal(orthogonal(torch.zeros(shape), 4), torch.zeros(shape))


def test_what_is_taller_than_wide_is_updated_in_pieces():
    """A GRU's three gates stand one above the other: each gets the update that it would get alone."""
    gates = [nn.Linear(32, 32, bias=False) for _ in range(3)]
    stacked = nn.Linear(32, 96, bias=False)
    with torch.no_grad():
        stacked.weight.copy_(torch.cat([gate.weight for gate in gates]))
    gradients = matrices(96, 32)
    for layer, gradient in zip([*gates, stacked], [*gradients.split(32), gradients], strict=True):
        layer.weight.grad = gradient.clone()
        Muon(layer.parameters(), 0.01).step()
    torch.testing.assert_close(stacked.weight, torch.cat([gate.weight for gate in gates]), atol=1e-6, rtol=0)


def test_a_matrix_that_no_pieces_fit_is_updated_whole():
    """251 rows are a prime number; torch's Muon knows no pieces."""
    ours, theirs = nn.Linear(32, 251, bias=False), nn.Linear(32, 251, bias=False)
    theirs.load_state_dict(ours.state_dict())
    before = ours.weight.detach().clone()
    reference = torch.optim.Muon(theirs.parameters(), 0.01, adjust_lr_fn="match_rms_adamw", weight_decay=0.01)
    expected, moved = train(theirs, reference)[0] - before, train(ours, Muon(ours.parameters(), 0.01))[0] - before
    assert nn.functional.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.96
    assert moved.norm() / expected.norm() == pytest.approx(1.0, abs=0.1)


def train(network, optimizer, steps=3):
    for i in range(steps):
        optimizer.zero_grad()
        for j, parameter in enumerate(network.parameters()):
            noise = torch.Generator().manual_seed(100 * i + j)
            parameter.grad = torch.randn(parameter.shape, generator=noise)
        optimizer.step()
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_matrices_move_as_with_torchs_muon():
    """torch's scales what it makes orthogonal by another norm and computes in bfloat16, so singular values differ."""
    theirs, ours = (nn.Linear(48, 36, bias=False) for _ in range(2))
    ours.load_state_dict(theirs.state_dict())
    before = theirs.weight.detach().clone()
    reference = torch.optim.Muon(theirs.parameters(), 0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    expected = train(theirs, reference)[0] - before
    moved = train(ours, Muon(ours.parameters(), 0.01, weight_decay=0.1))[0] - before
    assert nn.functional.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.96
    assert moved.norm() / expected.norm() == pytest.approx(1.0, abs=0.1)


def test_vectors_and_small_matrices_move_as_with_adamw():
    theirs = nn.ModuleDict({"head": nn.Linear(64, 31), "norm": nn.LayerNorm(64)})
    ours = copy.deepcopy(theirs)
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    expected = train(theirs, torch.optim.AdamW(theirs.parameters(), **settings))
    found = train(ours, Muon(ours.parameters(), **settings))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_kernels_of_a_convolution_are_a_row_for_each_output_channel():
    kernels, matrix = nn.Conv1d(12, 40, 3, bias=False), nn.Linear(36, 40, bias=False)
    with torch.no_grad():
        matrix.weight.copy_(kernels.weight.flatten(1))
    moved = []
    for layer in (kernels, matrix):
        optimizer = Muon(layer.parameters(), 0.01)
        layer.weight.grad = matrices(40, 36).view_as(layer.weight)
        optimizer.step()
        moved.append(layer.weight.detach().flatten(1))
    assert torch.equal(*moved)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(33, 40), nn.LayerNorm(40), nn.Linear(40, 3))


def test_a_loaded_state_goes_on_to_the_bit():
    section = OptimizerSection.model_validate({"type": "Muon", "args": {"lr": 0.01}})
    one = network()
    whole = Optimization("model", one, section, 10)
    train(one, whole.optimizer)
    saved, weights = copy.deepcopy(whole.state_dict()), copy.deepcopy(one.state_dict())
    expected = train(one, whole.optimizer)
    two = network()
    two.load_state_dict(weights)
    resumed = Optimization("model", two, section, 10)
    resumed.load_state_dict(saved)
    assert all(torch.equal(a, b) for a, b in zip(train(two, resumed.optimizer), expected, strict=True))
    # Of the matrix of 33 x 40 one copy is kept, of everything else two.
    assert whole.moments_size() == 4 * (33 * 40 + 2 * (40 + 40 + 40 + 40 * 3 + 3))

    other = Optimization("model", network(), OptimizerSection.model_validate({"type": "AdamW"}), 10)
    with pytest.raises(CheckpointError, match=r"the checkpoint has no 'step', AdamW needs it"):
        other.load_state_dict(saved)
    sgd = network()
    theirs = Optimization("model", sgd, OptimizerSection.model_validate({"type": "SGD", "args": {"momentum": 0.9}}), 10)
    train(sgd, theirs.optimizer)
    with pytest.raises(CheckpointError, match=r"holds momentum_buffer, Muon needs exp_avg"):
        resumed.load_state_dict(theirs.state_dict())


def test_a_closure_gives_the_loss_and_what_has_no_gradient_stays():
    layer = nn.Linear(40, 40)
    layer.bias.requires_grad_(False)
    optimizer = Muon(layer.parameters(), 0.01)

    def closure():
        optimizer.zero_grad()
        loss = layer(torch.ones(1, 40)).square().mean()
        loss.backward()
        return loss

    bias = layer.bias.clone()
    losses = [optimizer.step(closure).item() for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(layer.bias, bias)

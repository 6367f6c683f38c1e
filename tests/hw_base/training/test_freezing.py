"""Frozen parameters never change and cost no moments; rates and epochs go by globs."""

import pytest
import torch
from torch import nn

from hw_base.config.schema import OptimizerSection
from hw_base.errors import ConfigError
from hw_base.training.optimization import Optimization


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        self.table = nn.Embedding(2, 3)

    def forward(self, ids):
        return self.encoder(self.table(ids)).square().sum()


def section(**extra):
    return OptimizerSection.model_validate({"type": "AdamW", "args": {"lr": 0.1}, **extra})


def trained(epochs=1, **extra):
    """The network, the names that changed in each epoch, and the optimization."""
    torch.manual_seed(0)
    network = Network()
    optimization = Optimization("model", network, section(**extra), length=10)
    changes = []
    for epoch in range(epochs):
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        optimization.zero_grad()
        optimization.backward(network(torch.tensor([0, 1])))
        optimization.update(torch.tensor(True))
        changes.append({name for name, p in network.named_parameters() if not torch.equal(p, before[name])})
        optimization.end_epoch(epoch + 1)
    return network, changes, optimization


ALL = {"encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias", "table.weight"}


def test_everything_is_trained_where_nothing_is_said():
    assert trained()[1] == [ALL]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"freeze": ["encoder.*"]}, {"table.weight"}),
        ({"train": ["table.*"]}, {"table.weight"}),
        ({"train": ["encoder.*"], "freeze": ["encoder.1.*"]}, {"encoder.0.weight", "encoder.0.bias"}),
    ],
)
def test_what_is_frozen_never_changes_and_has_no_moments(said, expected):
    network, changes, optimization = trained(epochs=3, **said)
    assert changes == [expected] * 3
    kept = {id(p) for p in optimization.optimizer.state}
    assert kept == {id(p) for name, p in network.named_parameters() if name in expected}
    assert {name for name, p in network.named_parameters() if p.requires_grad} == expected


def test_what_thaws_is_trained_from_its_epoch_on():
    network, changes, optimization = trained(epochs=4, freeze=["encoder.*"], thaw={"encoder.1.*": 2})
    late = {"encoder.1.weight", "encoder.1.bias"}
    assert changes == [{"table.weight"}, {"table.weight"}, {"table.weight"} | late, {"table.weight"} | late]
    steps = {name: float(optimization.optimizer.state[dict(network.named_parameters())[name]]["step"]) for name in late}
    assert set(steps.values()) == {2.0}


def test_a_resumed_run_knows_what_has_thawed():
    network = Network()
    optimization = Optimization("model", network, section(freeze=["encoder.*"], thaw={"encoder.*": 5}), length=10)
    optimization.set_epoch(5)
    assert all(p.requires_grad for p in network.parameters())


def test_rates_are_shares_of_the_optimizers_own():
    """AdamW's first step has the size of the rate, whatever the gradient."""
    torch.manual_seed(0)
    network = Network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    flat = {"weight_decay": 0.0, "lr": 0.1}
    optimizer = OptimizerSection.model_validate({"type": "AdamW", "args": flat, "lr_factors": {"table.*": 0.1}})
    optimization = Optimization("model", network, optimizer, length=10)
    optimization.backward(network(torch.tensor([0, 1])))
    optimization.update(torch.tensor(True))
    moved = {name: float((p.detach() - before[name]).abs().max()) for name, p in network.named_parameters()}
    assert moved["table.weight"] == pytest.approx(0.01, rel=1e-3)
    assert moved["encoder.0.weight"] == pytest.approx(0.1, rel=1e-3)


def test_a_schedule_keeps_the_shares():
    said = {"lr_factors": {"table.*": 0.5}, "scheduler": {"type": "OneCycleLR", "args": {}}}
    _, _, optimization = trained(epochs=3, **said)
    fast, slow = (group["lr"] for group in optimization.optimizer.param_groups)
    assert slow == pytest.approx(0.5 * fast)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            {"freeze": ["encoders.*"]},
            "optimizers.model.freeze: 'encoders.*' matches no parameter. Did you mean 'encoder.*'?",
        ),
        ({"freeze": ["encoder"]}, "'encoder' matches no parameter. Did you mean 'encoder.*'?"),
        ({"train": ["nothing"]}, "optimizers.model.train: 'nothing' matches no parameter. Known: encoder.*, "),
        ({"thaw": {"table.*": 1}}, "names parameters that are not frozen: 'table.weight'"),
        ({"freeze": ["*"]}, "every parameter of this group is frozen"),
        ({"lr_factors": {"tabel.*": 2.0}}, "model.lr_factors: 'tabel.*' matches no parameter. Did you mean 'table.*'?"),
    ],
)
def test_mistakes_are_named(said, message):
    with pytest.raises(ConfigError) as caught:
        Optimization("model", Network(), section(**said), length=10)
    assert message in str(caught.value)

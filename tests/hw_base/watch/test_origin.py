"""Where NaN began is named: weights, input, layer, loss or gradients."""

import json

import pytest
import torch
from torch import nn

from hw_base.errors import DivergedError
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

SGD = {"type": "SGD", "args": {"lr": 0.01}}


class _Root(nn.Module):
    def forward(self, x):
        return (x - x.detach().abs().max() - 1).sqrt()


def trained(tmp_path, trainer=RegressorTrainer, change=lambda model: None, data=None):
    model = Regressor()
    change(model)
    run = make(trainer, model, data or batches(4), SGD, {}, run_dir=tmp_path, max_steps=4, max_bad_steps=2)
    with pytest.raises(DivergedError):
        run.train()
    (row,) = [json.loads(line) for line in (tmp_path / "diagnosis.jsonl").read_text().splitlines()]
    assert run.watch.found[0][1].name == row["name"]
    return row


def test_a_layer_that_gives_nan(tmp_path):
    def change(model):
        model.net[1] = _Root()

    row = trained(tmp_path, change=change)
    assert (row["step"], row["name"]) == (1, "nan_in_layer")
    assert "'model: net.1'" in row["sentence"]
    assert row["evidence"]["utterances"] == [f"u0-{i}" for i in range(6)]


def test_an_input_that_is_nan_names_its_utterance(tmp_path):
    data = batches(4)
    for batch in data:
        batch["x"][2, 1, 3] = torch.nan
    row = trained(tmp_path, data=data)
    assert row["name"] == "nan_in_input"
    assert row["evidence"]["utterances"] == ["u0-2"]


def test_a_loss_that_is_nan_though_all_layers_are_finite(tmp_path):
    class Logarithm(RegressorTrainer):
        def losses(self, batch):
            for name, values in super().losses(batch):
                yield name, {**values, "size": (values["size"] - 1e6).log()}

    row = trained(tmp_path, Logarithm)
    assert row["name"] == "nan_in_loss"
    assert row["evidence"]["losses"] == ["size"]


def test_gradients_that_are_nan_though_the_loss_is_finite(tmp_path):
    class RootOfZero(RegressorTrainer):
        def losses(self, batch):
            for name, values in super().losses(batch):
                yield name, {**values, "size": (values["size"] * 0).sqrt()}

    assert trained(tmp_path, RootOfZero)["name"] == "nan_in_gradients"


def test_weights_that_are_infinite(tmp_path):
    def change(model):
        nn.init.constant_(model.net[0].weight, torch.inf)

    assert trained(tmp_path, change=change)["evidence"]["weights"] == ["model: net.0.weight"]


def test_looking_for_the_origin_changes_nothing_else(tmp_path):
    """A run with one bad batch, of which nothing but the line of the log tells."""
    results = []
    for sought in (True, False):
        data = batches(4)
        data[1]["x"][0] = torch.nan
        torch.manual_seed(1)
        run = make(RegressorTrainer, Regressor(), data, SGD, {}, max_steps=8)
        run._origin_sought = not sought
        run.train()
        results.append(torch.cat([p.detach().flatten() for p in run.model.parameters()]))
        assert [one.name for _, one in run.watch.found] == (["nan_in_input"] if sought else [])
    assert torch.equal(*results)

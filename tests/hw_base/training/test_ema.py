"""The moving average of the weights, alone and in the loop."""

import pytest
import torch
from torch import nn

from hw_base import checkpoint
from hw_base.average import average
from hw_base.training.ema import EMA
from hw_base.writers import MultiWriter
from tests.conftest import same
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make, toy_config

OPTIMIZER = {"type": "SGD", "args": {"lr": 0.3}}


class Normed(Regressor):
    """With running statistics, a constant that is minus infinity in places, and a layer that stands in two places."""

    def __init__(self):
        super().__init__()
        self.net.append(nn.BatchNorm1d(5))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]), persistent=False)
        self.again = self.net[0]


def trainer(folder=None, steps=12, model=Normed, **section):
    torch.manual_seed(3)
    return make(
        RegressorTrainer, model(), batches(5), OPTIMIZER, {"mse": 1.0}, run_dir=folder, writers=MultiWriter(),
        max_steps=steps, eval_every=4, save_every=4, keep=10, **section,
    )  # fmt: skip


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("decay", [0.5, 0.9])
def test_it_follows_its_formula(decay):
    model = Normed()
    followed = EMA(model, decay)
    expected = weights_of(model)
    for n in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model.net[4].running_mean += 1
        followed.update()
        d = min(decay, (1 + n) / (10 + n))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = d * expected[name] + (1 - d) * tensor
    before = weights_of(model)
    with followed.in_use():
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, expected[name])
        assert model.mask.tolist() == [0.0, -torch.inf]
    assert same(weights_of(model), before)


def test_the_model_is_itself_again_after_an_error():
    model = Normed()
    followed = EMA(model, 0.9)
    nn.init.zeros_(model.net[0].weight)
    followed.update()
    before = weights_of(model)
    with pytest.raises(RuntimeError), followed.in_use():
        model(torch.zeros(1, 2, 3))
    assert same(weights_of(model), before)


def test_it_is_what_evaluations_see_and_checkpoints_hold(tmp_path):
    with_average = trainer(tmp_path, ema_decay=0.9)
    values = with_average.train()
    plain = trainer()
    plain.train()
    assert same(weights_of(plain.model), weights_of(with_average.model))  # training does not know of it
    state = checkpoint.load(checkpoint.path_of(tmp_path, 12))
    assert same(state["training_weights"], weights_of(plain.model))
    assert not torch.equal(state["model"]["net.0.weight"], state["training_weights"]["net.0.weight"])
    plain.model.load_state_dict(state["model"])
    assert plain.evaluate("val")["mse"] == pytest.approx(values["val/mse"], rel=1e-6)


def test_only_updates_count(tmp_path):
    made = trainer(tmp_path, ema_decay=0.9, accumulate=4)
    made.train()
    assert made.average.n_updates == 3


def test_a_resumed_run_ends_bit_equal(tmp_path):
    trainer(tmp_path, ema_decay=0.9).train()
    states = {step: checkpoint.load(checkpoint.path_of(tmp_path, step)) for step in (4, 12)}
    again = trainer(tmp_path, ema_decay=0.9)
    torch.manual_seed(99)
    again.load_state_dict(states[4], "there")
    again.train()
    resumed = checkpoint.load(checkpoint.path_of(tmp_path, 12))
    for key in ("model", "training_weights", "ema_updates", "optimizations", "rng"):
        assert same(resumed[key], states[12][key])


def test_it_may_begin_or_end_with_a_resumed_run(tmp_path):
    trainer(tmp_path, steps=4, ema_decay=0.9).train()
    state = checkpoint.load(checkpoint.path_of(tmp_path, 4))
    without = trainer()
    without.load_state_dict(state, "there")
    assert same(weights_of(without.model), state["training_weights"])
    plain = {key: value for key, value in state.items() if key not in ("training_weights", "ema_updates")}
    begun = trainer(ema_decay=0.9)
    begun.load_state_dict(plain, "there")
    assert begun.average.n_updates == 0
    with begun.average.in_use():
        assert same(weights_of(begun.model), state["model"])


def test_the_mean_of_checkpoints_is_of_their_averages(tmp_path):
    trainer(tmp_path, ema_decay=0.9).train()
    paths = [checkpoint.path_of(tmp_path, step) for step in (8, 12)]
    mean = average(paths)
    one, other = (checkpoint.load(path)["model"]["net.0.weight"] for path in paths)
    torch.testing.assert_close(mean["model"]["net.0.weight"], (one + other) / 2)
    assert "training_weights" not in mean


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, "much"])
def test_a_decay_is_between_0_and_1(decay):
    with pytest.raises(ValueError, match=r"trainer\.ema_decay"):
        toy_config({"model": OPTIMIZER}, {"mse": 1.0}, max_steps=1, ema_decay=decay)

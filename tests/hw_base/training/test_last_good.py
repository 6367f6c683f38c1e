"""One bad batch, or one bad update, leaves nothing behind: neither in running statistics nor on the disk."""

import copy

import pytest
import torch
from torch import nn

from hw_base import checkpoint
from hw_base.errors import DataError, DivergedError
from hw_base.nn.layers import MaskedBatchNorm
from hw_base.training.last_good import BufferGuard
from tests.conftest import same
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

ADAM = {"type": "AdamW", "args": {"lr": 0.01}}


class MaskedNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = MaskedBatchNorm(4)

    def forward(self, x):
        return self.norm(x.transpose(1, 2), torch.full((len(x),), x.shape[1])).transpose(1, 2)


class Normed(Regressor):
    """With a norm in front, as a student would write it, and a constant that is infinite."""

    def __init__(self, kind):
        super().__init__()
        self.net.insert(0, MaskedNorm() if kind == "masked" else nn.BatchNorm1d(5))
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))


class Stats(RegressorTrainer):
    """Statistics change in a pass that the loss does not depend on."""

    def losses(self, batch):
        self.model.net[0](batch["x"])
        yield "model", {"mse": self.model.net[1](torch.ones(1, 4)).square().mean()}


def trainer(model, data, section=ADAM, kind=RegressorTrainer, **options):
    return make(kind, model, data, section, {"mse": 1.0}, **{"max_steps": len(data), **options})


@pytest.mark.parametrize("value", [1e20, torch.inf, torch.nan])
@pytest.mark.parametrize("kind", ["masked", "torch"])
@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16, torch.float16])
def test_running_statistics_are_those_before_a_skipped_update(kind, value, amp_dtype):
    torch.manual_seed(0)
    data, model = batches(6), Normed(kind)
    data[3]["x"] = torch.full_like(data[3]["x"], value)
    data[3]["x"][0, 0, 0] = -value
    run = trainer(model, data, amp_dtype=amp_dtype)
    for batch in data[:3]:
        run.train_step(batch)
    before = copy.deepcopy(model.state_dict())
    statistics = copy.deepcopy(dict(model.named_buffers()))
    run.train_step(data[3])
    run.guard.read()
    assert same(statistics, dict(model.named_buffers()))
    if run.guard.skipped:  # the mean and the variance of 1e20 are infinite, but what is normalized with them is not
        assert same(before, model.state_dict())
    assert run.guard.skipped or value == 1e20
    run.train_step(data[4])
    assert not same(statistics, dict(model.named_buffers()))
    model.eval()
    assert torch.isfinite(model(data[5]["x"])["y"]).all()


def test_statistics_that_are_not_finite_are_taken_back_even_with_a_finite_loss():
    torch.manual_seed(0)
    data, model = batches(3), Normed("masked")
    data[1]["x"][0] = torch.inf
    run = trainer(model, data, kind=Stats)
    run.train_step(data[0])
    before = copy.deepcopy(dict(model.named_buffers()))
    run.train_step(data[1])
    assert same(before, dict(model.named_buffers()))
    assert run.guard.skipped == 0


def test_with_accumulation_all_batches_of_a_skipped_update_are_taken_back():
    """Also when the bad loss is not that of the last batch."""
    torch.manual_seed(0)
    data, model = batches(6), Normed("masked")
    data[2]["target"] = torch.full_like(data[2]["target"], torch.inf)
    run = trainer(model, data, accumulate=2)
    for batch in data[:2]:
        run.train_step(batch)
    before = copy.deepcopy(model.state_dict())
    for batch in data[2:4]:
        run.train_step(batch)
    run.guard.read()
    assert same(before, model.state_dict())
    assert run.guard.skipped == 1


class InfiniteLoss(RegressorTrainer):
    """A loss that is infinite, with gradients that are not."""

    def losses(self, batch):
        for name, values in super().losses(batch):
            values["mse"] = values["mse"].total / values["mse"].count
            yield name, {**values, "mse": values["mse"] + (torch.inf if self.step == 1 else 0.0)}


@pytest.mark.parametrize("amp_dtype", [None, torch.float16])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_an_infinite_loss_with_finite_gradients_is_skipped(amp_dtype, accumulate):
    torch.manual_seed(0)
    model = Regressor()
    run = trainer(model, batches(6), kind=InfiniteLoss, amp_dtype=amp_dtype, accumulate=accumulate)
    for batch in run.loader.batches[: 2 // accumulate * accumulate - accumulate]:
        run.train_step(batch)
    before = copy.deepcopy(model.state_dict())
    while run.step < 2:
        run.train_step(run.loader.batches[run.step])
    run.guard.read()
    assert run.guard.skipped == 1
    assert same(before, model.state_dict())


def test_a_model_without_statistics_pays_nothing():
    guard = BufferGuard(Regressor())
    guard.begin()
    assert (guard.groups, guard._before) == ({}, [])


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_after_a_divergence_the_weights_are_the_last_with_a_finite_loss(tmp_path, ema_decay):
    """One finite update of a huge rate ruins the weights; what follows is not finite for ever."""
    torch.manual_seed(0)
    section = {"type": "SGD", "args": {"lr": 1e30}}
    run = trainer(
        Regressor(), batches(30), section, max_bad_steps=4, run_dir=tmp_path, ema_decay=ema_decay, eval_every=100
    )
    first = copy.deepcopy(run.model.state_dict())
    with pytest.raises(DivergedError, match="4 in a row") as caught:
        run.train()
    assert caught.value.exit_code == 3
    state = checkpoint.load(checkpoint.newest_good(tmp_path))
    assert same(state["model"], first)
    assert state["guard"]["in_row"] == {}
    again = trainer(Regressor(), batches(30), ADAM | {"type": "SGD"}, max_bad_steps=4, run_dir=tmp_path, max_steps=20)
    again.load_state_dict(state, "x")
    again.train()
    assert again.step == 20
    assert again.guard.skipped == 4


def test_a_loss_that_grows_without_bound_ends_the_run_as_diverged(tmp_path):
    torch.manual_seed(0)
    model = Regressor()
    model.net = nn.Linear(4, 3)
    run = trainer(model, batches(60), {"type": "SGD", "args": {"lr": 5.0}}, run_dir=tmp_path, eval_every=100)
    with pytest.raises(DivergedError, match=r"the loss of 'model' grows without bound: \S+e\+\d+, the first one was"):
        run.train()
    assert run.guard.skipped == 0
    assert run.step < 60
    state = checkpoint.load(checkpoint.newest_good(tmp_path))
    assert max(float(tensor.abs().max()) for tensor in state["model"].values()) < 1e4
    assert state["guard"]["large_in_row"] == {}


def test_a_large_loss_now_and_then_is_no_divergence():
    torch.manual_seed(0)
    data = batches(12)
    for batch in data[1::2]:
        batch["target"] *= 1e4
    run = trainer(Regressor(), data, {"type": "SGD", "args": {"lr": 1e-9}}, max_bad_steps=2)
    run.train()
    assert run.step == 12


def test_what_a_decoder_refuses_while_updates_are_bad_is_a_divergence(tmp_path):
    torch.manual_seed(0)
    run = trainer(Regressor(), batches(12), {"type": "SGD", "args": {"lr": 1e30}}, eval_every=3, run_dir=tmp_path)

    def update_metrics(batch, split):
        if not torch.isfinite(batch["y"].square()).all():
            raise DataError("decoder: the probabilities do not sum to one")

    run.update_metrics = update_metrics
    with pytest.raises(DivergedError, match="probabilities do not sum to one; the updates before were bad as well"):
        run.train()
    weights = checkpoint.load(checkpoint.newest_good(tmp_path))["model"]
    assert all(float(tensor.abs().max()) < 10 for tensor in weights.values())


def test_weights_that_are_not_finite_are_never_written(tmp_path, caplog):
    run = trainer(Normed("masked"), batches(4), run_dir=tmp_path)
    assert run.save()  # an infinite constant is no fault
    with torch.no_grad():
        run.model.net[1].bias[0] = torch.inf
    run.step = 1
    assert not run.save()
    assert "step 1: not saved, net.1.bias is not finite" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000000.pth"]

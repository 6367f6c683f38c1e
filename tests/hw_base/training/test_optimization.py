"""Every schedule resumes where it was."""

import math

import pytest
import torch
from torch import nn

from hw_base.config.schema import OptimizerSection
from hw_base.errors import CheckpointError
from hw_base.registry import OPTIMIZERS, SCHEDULERS
from hw_base.training.optimization import Optimization

ARGUMENTS = {
    "CosineAnnealingWarmRestarts": {"T_0": 3},
    "CyclicLR": {"base_lr": 0.01, "step_size_up": 2},
    "ExponentialLR": {"gamma": 0.7},
    "MultiStepLR": {"milestones": [2, 5]},
    "StepLR": {"step_size": 2},
    "WarmupDecay": {"warmup_steps": 3},
}


def made(schedule: str) -> Optimization:
    every = "evaluation" if schedule == "ReduceLROnPlateau" else "step"
    scheduler = {"type": schedule, "args": ARGUMENTS.get(schedule, {}), "every": every}
    section = {"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}, "scheduler": scheduler}
    torch.manual_seed(0)
    return Optimization("model", nn.Linear(2, 1), OptimizerSection.model_validate(section), 10)


def run(optimization: Optimization, steps: int) -> list[float]:
    """Rates after each of so many updates."""
    rates = []
    for _ in range(steps):
        for parameter in optimization.parameters:
            parameter.grad = torch.ones_like(parameter)
        optimization.update(torch.tensor(True))
        optimization.end_evaluation(1.0)
        rates.append(optimization.lr)
    return rates


@pytest.mark.parametrize("schedule", sorted(SCHEDULERS))
def test_a_schedule_is_resumed(schedule):
    whole = run(made(schedule), 9)
    assert len(set(whole)) > 1 or schedule in ("ConstantLR", "ReduceLROnPlateau")
    first = made(schedule)
    assert run(first, 4) == whole[:4]
    second = made(schedule)
    second.load_state_dict(first.state_dict())
    assert run(second, 5) == whole[4:]


def test_a_loss_gives_gradients_to_its_own_group_alone():
    torch.manual_seed(0)
    mine, others = nn.Linear(2, 1), nn.Linear(1, 1)
    section = OptimizerSection.model_validate({"type": "AdamW"})
    Optimization("model", mine, section, 10).backward(others(mine(torch.ones(1, 2))).sum())
    assert all(parameter.grad is not None for parameter in mine.parameters())
    assert all(parameter.grad is None for parameter in others.parameters())


@pytest.mark.parametrize("kind", sorted(OPTIMIZERS))
@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_an_update_that_is_not_finite_changes_nothing(kind, fault):
    """Whether the optimizer's kernel can skip it or not."""
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    made = Optimization("model", network, OptimizerSection.model_validate({"type": kind, "args": {"lr": 0.1}}), 10)
    for good in (True, False, True):
        before = [parameter.detach().clone() for parameter in network.parameters()]
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        if not good and fault == "gradient":
            network.bias.grad.fill_(torch.inf)
        _, taken = made.update(torch.tensor(good or fault == "gradient"))
        assert bool(taken) is good
        assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True)) is not good
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("buffer", "message"),
    [
        (torch.zeros(5), r"momentum_buffer of a parameter is \(5,\), expected a tensor \(1, 2\)"),
        (torch.full((1, 2), torch.nan), "momentum_buffer of a parameter is not a possible number"),
    ],
)
def test_a_malformed_momentum_is_refused(buffer, message):
    old = made("ConstantLR")
    run(old, 1)
    state = old.state_dict()
    state["optimizer"]["state"][0]["momentum_buffer"] = buffer
    with pytest.raises(CheckpointError, match=f"optimizer 'model': {message}"):
        made("ConstantLR").load_state_dict(state)


@pytest.mark.parametrize("shape", [(3, 2), (1, 5)])
def test_moments_of_more_rows_or_of_another_width_are_refused(shape):
    section = OptimizerSection.model_validate({"type": "SGD", "args": {"lr": 0.1, "momentum": 0.9}})
    old = Optimization("model", nn.Linear(shape[1], shape[0]), section, 10)
    run(old, 1)
    new = Optimization("model", nn.Linear(2, 1), section, 10)
    with pytest.raises(
        CheckpointError, match=rf"a moment is \({shape[0]}, {shape[1]}\), the parameter \(1, 2\); start"
    ):
        new.load_moments_by_name(old.state_dict(), old.names)


@pytest.mark.parametrize(("section", "copies"), [({"type": "AdamW"}, 2), ({"type": "SGD", "args": {"lr": 0.1}}, 0)])
def test_the_size_of_the_moments_counts_copies_of_the_parameters(section, copies):
    network = nn.Linear(7, 3)
    made = Optimization("model", network, OptimizerSection.model_validate(section), 10)
    assert made.moments_size() == copies * (7 * 3 + 3) * 4


@pytest.mark.parametrize("amp_dtype", [None, torch.float16])
def test_a_group_that_thaws_later_waits_without_updates(amp_dtype):
    network = nn.Linear(2, 1)
    before = network.weight.detach().clone()
    section = OptimizerSection.model_validate({"type": "AdamW", "freeze": ["*"], "thaw": {"*": 1}})
    optimization = Optimization("model", network, section, 10, amp_dtype)
    for epoch, waits in ((0, True), (1, False)):
        optimization.set_epoch(epoch)
        optimization.zero_grad()
        optimization.backward(1e-3 * network(torch.ones(1, 2)).sum())
        _, taken = optimization.update(torch.tensor(True))
        assert bool(taken)
        assert torch.equal(network.weight, before) is waits


def rates(**args):
    """Of eleven updates, the first of them the optimizer's own."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = SCHEDULERS["WarmupDecay"](optimizer, total_steps=10, warmup_steps=2, **args)
    values = []
    for _ in range(11):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ({"decay": "none"}, [2.0] * 9),
        ({"decay": "linear"}, [2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5, 0.25, 0.0]),
        ({"decay": "linear", "hold_share": 0.5}, [2.0, 2.0, 2.0, 2.0, 2.0, 1.5, 1.0, 0.5, 0.0]),
        ({"decay": "linear", "hold_share": 0.5, "final_share": 0.5}, [2.0] * 5 + [1.75, 1.5, 1.25, 1.0]),
        ({"decay": "cosine", "hold_share": 0.5}, [2.0] * 5 + [1 + math.sqrt(0.5), 1.0, 1 - math.sqrt(0.5), 0.0]),
        ({"decay": "inverse_sqrt"}, [2 * math.sqrt(3 / n) for n in range(3, 12)]),
    ],
)
def test_a_warm_up_then_a_hold_then_a_decay(args, expected):
    assert rates(**args) == pytest.approx([2 / 3, 4 / 3, *expected])

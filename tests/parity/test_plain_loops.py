"""The shared loop against loops written out by hand: bit for bit where the order of sums is the same."""

import copy

import pytest
import torch
from torch.nn import functional as F

from hw_base.nn.losses import masked_mean
from tests.hw_base.toys import Gan, GanTrainer, Regressor, RegressorTrainer, batches, make

ADAMW = {"type": "AdamW", "args": {"lr": 0.01, "weight_decay": 0.1}}


def plain_adamw(parameters, lr=0.01):
    return torch.optim.AdamW(parameters, lr=lr, weight_decay=0.1, fused=True)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_one_optimizer_with_dropout_schedule_and_clipping(accumulate):
    data = batches(12)
    section = {**ADAMW, "scheduler": {"type": "OneCycleLR", "args": {"pct_start": 0.3}}, "clip_norm": 0.5}
    torch.manual_seed(3)
    model = Regressor()
    plain = copy.deepcopy(model)
    weights = {"mse": 2.0, "size": 0.1}
    trainer = make(RegressorTrainer, model, data, section, weights, max_steps=12, accumulate=accumulate)
    torch.manual_seed(4)
    trainer.train()

    optimizer = plain_adamw(plain.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=12 // accumulate, pct_start=0.3)
    torch.manual_seed(4)
    plain.train()
    for i, batch in enumerate(data):
        y = plain(batch["x"])["y"]
        error = (y - batch["target"]).square().mean(-1)
        mse = masked_mean(error, batch["mask"])
        total = torch.stack([2.0 * (mse.total / mse.count), 0.1 * y.square().mean()]).sum()
        (total / accumulate).backward()
        if (i + 1) % accumulate == 0:
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_three_optimizers(accumulate):
    data = batches(8)
    torch.manual_seed(0)
    model = Gan()
    p = copy.deepcopy(model)
    trainer = make(GanTrainer, model, data, ADAMW, {"mel": 45.0}, max_steps=8, accumulate=accumulate)
    trainer.train()
    assert trainer.step == 8

    optimizers = {name: plain_adamw(network.parameters()) for name, network in p.parameter_groups().items()}

    def backward(loss, name):
        gradients = torch.autograd.grad(loss / accumulate, list(getattr(p, name).parameters()), retain_graph=True)
        for parameter, gradient in zip(getattr(p, name).parameters(), gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    for i, batch in enumerate(data):
        fake = p.generator(batch["x"])
        length, real = fake.sum(-1, keepdim=True), batch["target"].sum(-1, keepdim=True)

        def step(name, i=i):
            if (i + 1) % accumulate == 0:
                optimizers[name].step()
                optimizers[name].zero_grad()

        d = p.duration_discriminator
        backward((1 - d(real)).square().mean() + d(length.detach()).square().mean(), "duration_discriminator")
        step("duration_discriminator")
        d = p.discriminator
        backward((1 - d(batch["target"])).square().mean() + d(fake.detach()).square().mean(), "discriminator")
        step("discriminator")
        adv = (1 - p.discriminator(fake)).square().mean()
        duration_adv = (1 - p.duration_discriminator(length)).square().mean()
        backward(45.0 * F.l1_loss(fake, batch["target"]) + adv + duration_adv, "generator")
        step("generator")
    for (name, ours), theirs in zip(model.named_parameters(), p.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize("every", ["step", "epoch"])
def test_schedules_are_stepped_where_they_say(every):
    data = batches(4)
    section = {**ADAMW, "scheduler": {"type": "ExponentialLR", "args": {"gamma": 0.5}, "every": every}}
    trainer = make(RegressorTrainer, Regressor(), data, section, {"mse": 1.0}, epochs=3)
    trainer.train()
    steps = 12 if every == "step" else 3
    assert trainer.optimizations["model"].lr == pytest.approx(0.01 * 0.5**steps)


@pytest.mark.parametrize(
    ("schedule", "last"),
    [("OneCycleLR", 0.01 / 25 / 1e4), ("CosineAnnealingLR", 0.0), ("PolynomialLR", 0.0), ("WarmupDecay", 0.0)],
)
def test_a_schedule_gets_the_length_of_the_run(schedule, last):
    args = {"warmup_steps": 4} if schedule == "WarmupDecay" else {}
    section = {**ADAMW, "scheduler": {"type": schedule, "args": args}}
    trainer = make(RegressorTrainer, Regressor(), batches(5), section, {"mse": 1.0}, max_steps=19)
    trainer.train()
    assert trainer.optimizations["model"].lr == pytest.approx(last, abs=5e-4)
    assert trainer.step == 19


def test_evaluation_changes_nothing_and_names_every_loss():
    torch.manual_seed(0)
    model = Gan()
    trainer = make(GanTrainer, model, batches(4), ADAMW, {"mel": 45.0}, max_steps=4)
    before = copy.deepcopy(model.state_dict())
    random_before = torch.get_rng_state()
    values = trainer.evaluate("val")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(random_before, torch.get_rng_state())
    groups = {
        "generator": ("mel", "adv", "duration_adv"),
        "discriminator": ("adv",),
        "duration_discriminator": ("adv",),
    }
    assert set(values) == {f"{g}/{n}" for g, names in groups.items() for n in (*names, "loss")}
    total = 45.0 * values["generator/mel"] + values["generator/adv"] + values["generator/duration_adv"]
    assert values["generator/loss"] == pytest.approx(total)


def test_evaluation_is_no_mean_of_means():
    data = batches(2, size=6)
    data[1] = {key: value[:1] for key, value in data[1].items()}
    model = Regressor().eval()
    trainer = make(RegressorTrainer, model, data, ADAMW, {"mse": 1.0}, max_steps=2, val=data)
    sums = [((model(b["x"])["y"] - b["target"]).square().mean(-1) * b["mask"]).sum() for b in data]
    expected = (sum(sums) / sum(b["mask"].sum() for b in data)).item()
    assert trainer.evaluate("val")["mse"] == pytest.approx(expected, rel=1e-5)

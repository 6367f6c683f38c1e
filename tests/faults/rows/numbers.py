"""Numbers that are not finite, anywhere on the way from the audio to the weights."""

import copy
import itertools

import torch
from torch import nn

from hw_base import checkpoint
from hw_base.errors import DivergedError
from hw_base.nn.layers import MaskedBatchNorm
from tests.conftest import same
from tests.faults.table import row
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

PLACES = ("features", "one feature", "target", "loss", "gradient", "buffer")
VALUES = (torch.nan, torch.inf, -torch.inf, 1e20)
PRECISIONS = (None, torch.bfloat16, torch.float16)
STEPS = 12


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = MaskedBatchNorm(4)

    def forward(self, x):
        return self.norm(x.transpose(1, 2), torch.full((len(x),), x.shape[1])).transpose(1, 2)


class Poisoned(RegressorTrainer):
    """Puts the value into losses, gradients or running statistics at the steps that are to be bad."""

    place, value, bad_steps = "", 0.0, frozenset()

    def losses(self, batch):
        bad = self.model.training and self.step + 1 in self.bad_steps
        for name, values in super().losses(batch):
            if bad and self.place == "loss":
                values["size"] = values["size"] + self.value
            if bad and self.place == "gradient":
                handle = self.model.net[1].weight.register_hook(lambda g: g.fill_(self.value))
            if bad and self.place == "buffer":
                with torch.no_grad():
                    self.model.net[0].norm.running_mean.fill_(self.value)
                # As a forward pass that ruins its statistics does, whose loss is ruined too.
                values["size"] = values["size"] + self.value
            yield name, values
            if bad and self.place == "gradient":
                handle.remove()


def poisoned(place, value, amp_dtype, bad_steps, folder, ema_decay):
    torch.manual_seed(0)
    data = batches(STEPS)
    for step in bad_steps:
        batch = data[(step - 1) % STEPS]
        if place == "features":
            batch["x"] = torch.full_like(batch["x"], value)
        elif place == "one feature":
            batch["x"][0, 0, 0] = value
        elif place == "target":
            batch["target"] = torch.full_like(batch["target"], value)
    model = Regressor()
    model.net.insert(0, Norm())
    section = {"type": "AdamW", "args": {"lr": 0.01}, "clip_norm": 1.0}
    options = {"max_steps": STEPS, "max_bad_steps": 4, "eval_every": 100, "save_every": 1, "ema_decay": ema_decay}
    run = make(Poisoned, model, data, section, {"mse": 1.0}, run_dir=folder, amp_dtype=amp_dtype, **options)
    run.place, run.value, run.bad_steps = place, value, frozenset(bad_steps)
    return run


def clean_on_disk(folder):
    for path in checkpoint.numbered(folder):
        state = checkpoint.load(path)
        for part in ("model", "training_weights"):
            for name, tensor in state.get(part, {}).items():
                assert bool(torch.isfinite(tensor).all()), f"{path.name}: {name} is not finite"
        for one in state["optimizations"].values():
            for moments in one["optimizer"]["state"].values():
                assert all(bool(torch.isfinite(m).all()) for m in moments.values()), f"{path.name}: moments"


def look_at(run, forever, before):
    """What a poisoned run must have done."""
    ended = False
    try:
        run.train()
    except DivergedError as error:
        ended = True
        assert error.exit_code == 3
        assert len(str(error).splitlines()) == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in run.model.state_dict().values())
    clean_on_disk(run.setup.run_dir)
    assert checkpoint.newest_good(run.setup.run_dir) is not None
    scaler = run.optimizations["model"].scaler
    if scaler is not None and run.place == "gradient" and abs(run.value) != 1e20:
        # What overflows in float16 is how the scale is found: skipped, and the scale is halved.
        assert not ended
        assert scaler.get_scale() <= 2.0 ** (16 - len(run.bad_steps)), scaler.get_scale()
    elif forever:
        assert ended or abs(run.value) == 1e20  # a large finite number may be clipped and trained with
    else:
        assert not ended
        assert run.step == STEPS
        assert abs(run.value) == 1e20 or run.guard.skipped == len(run.bad_steps)
    if not ended:
        assert not same(before, run.model.state_dict())


@row(
    6,
    "NaN, infinity, 1e20 in features, targets, losses, gradients, statistics; once or for ever; off, bf16, fp16",
    "skipped, named and counted, or the run ends as diverged with code 3; never on the disk",
)
def bad_numbers(trials):
    cases = list(itertools.product(PLACES, VALUES, PRECISIONS, (False, True), (None, 0.9)))
    for place, value, amp_dtype, forever, ema_decay in cases if trials.whole else cases[::11]:
        steps = range(6, STEPS + 1) if forever else (6,)
        name = f"{value} in {place}, {amp_dtype}, {'for ever' if forever else 'once'}, averaged {ema_decay}"
        with trials.trial(name) as folder:
            run = poisoned(place, value, amp_dtype, steps, folder, ema_decay)
            look_at(run, forever, copy.deepcopy(run.model.state_dict()))

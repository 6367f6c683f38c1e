"""What the loop shows to watchers, and when."""

import pytest
import torch

from hw_base.watch.diagnosis import Watcher
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make


class Notes(Watcher):
    def __init__(self):
        self.seen = []

    def look(self, seen):
        self.seen.append(seen)
        return iter(())


class Watched(RegressorTrainer):
    def watchers(self):
        return [Notes()]

    @property
    def seen(self):
        return self.watch.watchers[0].seen


OPTIMIZER = {
    "type": "AdamW",
    "args": {"lr": 0.01, "weight_decay": 0.03},
    "clip_norm": 2.0,
    "scheduler": {"type": "ExponentialLR", "args": {"gamma": 0.5}},
}


def run(steps=6, amp_dtype=None, **section):
    torch.manual_seed(0)
    options = {"max_steps": steps, "log_every": 2, "eval_every": 3, "amp_dtype": amp_dtype, **section}
    made = make(Watched, Regressor(), batches(steps), OPTIMIZER, {"mse": 1.0}, **options)
    made.train()
    return made


def test_logged_steps_show_the_row_the_outputs_and_all_weights_and_evaluations_their_values():
    made = run()
    assert [(seen.step, bool(seen.values), bool(seen.evaluation)) for seen in made.seen] == [
        (2, True, False), (3, False, True), (4, True, False), (6, True, True),
    ]  # fmt: skip
    for seen in made.seen:
        logged = bool(seen.values)
        assert ("y" in seen.batch) is logged
        assert len(seen.layers) == (4 if logged else 0)
        assert seen.gradients.keys() == ({"model: net.0.weight", "model: net.3.weight"} if logged else set())
        assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in seen.batch.values())
    assert made.seen[0].batch["utterance_id"] == made.loader.batches[1]["utterance_id"]


@pytest.mark.parametrize("amp_dtype", [None, torch.float16])
def test_an_optimizer_is_shown_as_it_is_configured_and_as_it_stands(amp_dtype):
    made = run(steps=2, amp_dtype=amp_dtype)
    (seen,) = made.seen
    shown = seen.optimizers["model"]
    assert (shown.lr, shown.base_lr) == (pytest.approx(0.0025), 0.01)
    assert (shown.clip_norm, shown.weight_decay, shown.every, shown.leftover) == (2.0, 0.03, "step", 0.0)
    assert shown.loss_scale == (made.optimizations["model"].scaler.get_scale() if amp_dtype else None)
    assert (seen.last_step, seen.device, seen.started_from) == (2, "cpu", False)


def test_in_the_middle_of_an_accumulation_no_weights_are_shown():
    made = run(accumulate=4, steps=8, eval_every=8)
    assert [(seen.step, len(seen.layers)) for seen in made.seen] == [(2, 0), (4, 4), (6, 0), (8, 4)]


def test_gradients_that_were_not_forgotten_are_shown():
    torch.manual_seed(0)
    made = make(Watched, Regressor(), batches(2), OPTIMIZER, {"mse": 1.0}, max_steps=2, log_every=1, eval_every=2)
    made.optimizations["model"].zero_grad = lambda: None
    made.train()
    assert [seen.optimizers["model"].leftover > 0 for seen in made.seen] == [False, True]

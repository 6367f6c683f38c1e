"""The loop's conduct: resume to the bit, bad updates, evaluation, early stop, what is written."""

import copy
import json
import signal

import pytest
import torch

from hw_base import checkpoint, distributed
from hw_base.errors import CheckpointError, ConfigError, DisagreementError, DivergedError
from hw_base.nn.losses import masked_mean
from hw_base.writers import JsonlWriter, MultiWriter
from tests.conftest import same
from tests.hw_base.toys import Gan, GanTrainer, Regressor, RegressorTrainer, batches, make

SECTION = {
    "type": "AdamW",
    "args": {"lr": 0.01},
    "scheduler": {"type": "OneCycleLR"},
    "clip_norm": 1.0,
}
UNTIMED = ("steps_per_second", "data_wait")


def rows(path):
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in UNTIMED} for row in kept]


def run(trainer_type, model, folder, *, steps=20, seed=5, resume=None, **section):
    torch.manual_seed(seed)
    writers = MultiWriter([JsonlWriter(folder / "metrics.jsonl")])
    trainer = make(
        trainer_type, model, batches(7), SECTION, {"mse": 1.0}, run_dir=folder, writers=writers, max_steps=steps,
        eval_every=4, save_every=3, monitor="min val/mse" if trainer_type is RegressorTrainer else None, **section,
    )  # fmt: skip
    if resume is not None:
        state = checkpoint.load(resume)
        trainer.load_state_dict(state, resume)
        trainer.setup.writers.load_state_dict(state["writers"], trainer.step)
    return trainer


@pytest.mark.parametrize(("trainer_type", "model_type"), [(RegressorTrainer, Regressor), (GanTrainer, Gan)])
@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("cut", [3, 10, 14, 18])
def test_a_resumed_run_ends_bit_equal(tmp_path, trainer_type, model_type, cut, amp_dtype):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    torch.manual_seed(1)
    model = model_type()
    first = run(trainer_type, copy.deepcopy(model), whole)
    first.setup.amp_dtype = amp_dtype
    first.train()

    half = run(trainer_type, copy.deepcopy(model), parts, accumulate=1)
    half.setup.amp_dtype = amp_dtype
    half.last_step = 20
    stop = cut
    after = half._after_step

    def stop_there(progress):
        values = after(progress)
        if half.step == stop:
            half._saved_at = -1
            half.save()
            raise KeyboardInterrupt
        return values

    half._after_step = stop_there
    with pytest.raises(KeyboardInterrupt):
        half.train()
    torch.manual_seed(99)
    second = run(trainer_type, model_type(), parts, seed=77, resume=checkpoint.path_of(parts, cut))
    second.setup.amp_dtype = amp_dtype
    second.train()
    one, other = (checkpoint.load(checkpoint.path_of(folder, 20)) for folder in (whole, parts))
    assert same(one, other)
    assert rows(whole / "metrics.jsonl") == rows(parts / "metrics.jsonl")


@pytest.mark.parametrize(
    ("every", "evaluated"),
    [(5, [5, 10, 15, 20]), ("1 epoch", [7, 14, 20]), (None, [7, 14, 20]), ("2 epochs", [14, 20]), ("9 epochs", [20])],
)
def test_intervals_are_steps_or_epochs(tmp_path, every, evaluated):
    """There are seven batches, and twenty steps."""
    writers = MultiWriter([JsonlWriter(tmp_path / "metrics.jsonl")])
    make(
        RegressorTrainer, Regressor(), batches(7), SECTION, {"mse": 1.0}, run_dir=tmp_path, writers=writers,
        max_steps=20, eval_every=every, save_every="1 epoch", keep=9,
    ).train()  # fmt: skip
    assert [row["step"] for row in rows(tmp_path / "metrics.jsonl") if row["split"] == "val"] == evaluated
    assert [checkpoint.load(path)["step"] for path in checkpoint.numbered(tmp_path)] == [20, 14, 7]


def test_accumulation_resumes_within_a_window_only_at_its_edge(tmp_path):
    """Gradients are not stored: a checkpoint inside a window would lose a part of it."""
    torch.manual_seed(0)
    trainer = run(RegressorTrainer, Regressor(), tmp_path, accumulate=4, steps=8)
    trainer.train()
    steps = [checkpoint.load(path)["step"] for path in checkpoint.numbered(tmp_path)]
    assert steps == [8, 4]


def test_a_changed_rate_and_length_count_after_a_resume(tmp_path):
    torch.manual_seed(0)
    run(RegressorTrainer, Regressor(), tmp_path, steps=20).train()
    section = copy.deepcopy(SECTION)
    section["args"]["lr"] = 0.1
    data = batches(7)
    longer = make(RegressorTrainer, Regressor(), data, section, {"mse": 1.0}, max_steps=40)
    state = checkpoint.load(checkpoint.path_of(tmp_path, 18))
    longer.load_state_dict(state, "x")
    longer.train_step(data[0])
    fresh = make(RegressorTrainer, Regressor(), data, section, {"mse": 1.0}, max_steps=40)
    for _ in range(19):
        fresh.train_step(data[0])
    assert longer.optimizations["model"].lr == pytest.approx(fresh.optimizations["model"].lr)
    longer.train()
    assert longer.step == 40


def poisoned(n, bad, value=float("nan")):
    data = batches(n)
    for i in bad:
        data[i]["target"] = torch.full_like(data[i]["target"], value)
    return data


@pytest.mark.parametrize("amp_dtype", [None, torch.float16])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_loss_is_skipped_named_and_counted(caplog, amp_dtype, value):
    torch.manual_seed(0)
    model = Regressor()
    trainer = make(
        RegressorTrainer, model, poisoned(8, [2, 5], value), {"type": "AdamW", "args": {"lr": 0.01}}, {"mse": 1.0},
        max_steps=8, amp_dtype=amp_dtype,
    )  # fmt: skip
    snapshots = []
    for batch in trainer.loader:
        before = copy.deepcopy(model.state_dict())
        trainer.train_step(batch)
        trainer.guard.read()
        snapshots.append(same(before, model.state_dict()))
    assert snapshots[1:] == [i in (2, 5) for i in range(1, 8)]  # the first one finds the loss scale of fp16
    assert trainer.guard.skipped == 2
    named = [r.message for r in caplog.records if "update of 'model' skipped" in r.message]
    assert len(named) == 2
    assert "step 3:" in named[0]
    assert "mse" in named[0]
    assert "u2-0" in named[0]
    if amp_dtype is torch.float16:
        assert trainer.optimizations["model"].scaler.get_scale() >= 1024


def test_too_many_bad_updates_end_the_run_with_good_weights(tmp_path):
    torch.manual_seed(0)
    model = Regressor()
    writers = MultiWriter([JsonlWriter(tmp_path / "metrics.jsonl")])
    trainer = make(
        RegressorTrainer, model, poisoned(30, range(5, 30)), SECTION, {"mse": 1.0}, run_dir=tmp_path, writers=writers,
        max_steps=30, max_bad_steps=4,
    )  # fmt: skip
    with pytest.raises(DivergedError, match="4 in a row"):
        trainer.train()
    assert trainer.step == 9
    state = checkpoint.load(checkpoint.newest_good(tmp_path))
    assert state["step"] == 9
    assert all(torch.isfinite(value).all() for value in state["model"].values())


class LostGeneratorTrainer(GanTrainer):
    """From the third step on the generator's loss, and no other, is not a number."""

    def losses(self, batch):
        for name, values in super().losses(batch):
            lost = name == "generator" and self.step >= 2
            yield name, {**values, "mel": values["mel"] * torch.nan} if lost else values


def test_good_updates_of_a_discriminator_do_not_keep_a_bad_generator_alive():
    torch.manual_seed(0)
    trainer = make(
        LostGeneratorTrainer, Gan(), batches(12), SECTION, {"mel": 1.0}, max_steps=12, max_bad_steps=4,
    )  # fmt: skip
    with pytest.raises(DivergedError, match=r"update of 'generator' skipped.*4 in a row"):
        trainer.train()
    assert trainer.step == 6
    again = make(GanTrainer, Gan(), batches(12), SECTION, {"mel": 1.0}, max_steps=12)
    assert trainer.guard.in_row == {}  # a run that is resumed with another rate must not die at once
    again.guard.load_state_dict({"skipped": 4, "in_row": {"generator": 4}})
    assert again.guard.in_row["generator"] == 4
    again.guard.load_state_dict({"skipped": 5, "in_row": 3})  # as it stood in older checkpoints
    assert (again.guard.skipped, again.guard.in_row) == (5, {})


def test_the_weight_of_a_loss_grows_over_its_warm_up(tmp_path):
    torch.manual_seed(0)
    writers = MultiWriter([JsonlWriter(tmp_path / "metrics.jsonl")])
    weights = {"mse": 2.0, "size": {"weight": 8.0, "warmup_steps": 4}}
    trainer = make(
        RegressorTrainer, Regressor(), batches(3), SECTION, weights, run_dir=tmp_path, writers=writers, max_steps=6,
        eval_every=1, log_every=1,
    )  # fmt: skip
    trainer.train()
    written = rows(tmp_path / "metrics.jsonl")
    trained = [row for row in written if row.get("split") == "train"]
    found = [(row["loss"] - 2 * row["mse"]) / row["size"] for row in trained]
    assert found == pytest.approx([2.0, 4.0, 6.0, 8.0, 8.0, 8.0], rel=1e-4)
    # An evaluation weighs them as the config says, so that its totals can be compared.
    evaluated = [row for row in written if row.get("split") == "val"]
    assert [row["loss"] for row in evaluated] == pytest.approx([2 * row["mse"] + 8 * row["size"] for row in evaluated])
    assert len(evaluated) == 6


def test_a_bad_value_never_counts_as_the_best():
    trainer = make(RegressorTrainer, Regressor(), batches(4), SECTION, {"mse": 1.0}, max_steps=4, monitor="min val/mse")
    assert trainer.monitor.update(2.0, 1)
    assert not trainer.monitor.update(float("nan"), 2)
    assert trainer.monitor.update(1.0, 3)
    assert (trainer.monitor.best, trainer.monitor.best_step) == (1.0, 3)


def test_early_stop_ends_after_stale_evaluations(tmp_path):
    frozen = {"type": "SGD", "args": {"lr": 1e-12}}
    trainer = make(
        RegressorTrainer, Regressor(), batches(4), frozen, {"mse": 1.0}, max_steps=100, eval_every=2, run_dir=tmp_path,
        monitor="min val/size", early_stop=3,
    )  # fmt: skip
    trainer.train()
    assert trainer.step == 8  # the first evaluation is the best one
    assert checkpoint.load(tmp_path / checkpoint.BEST)["step"] == 2


def test_the_logged_gradient_norm_is_that_before_clipping(tmp_path):
    torch.manual_seed(0)
    data, model = batches(3), Regressor().eval()
    section = {"type": "SGD", "args": {"lr": 0.0001}, "clip_norm": 1e-3}
    writers = MultiWriter([JsonlWriter(tmp_path / "m.jsonl")])
    trainer = make(RegressorTrainer, model, data[:1], section, {"mse": 1.0}, writers=writers, max_steps=1, log_every=1)
    model.net[2].p = 0.0
    trainer.train()
    norm = rows(tmp_path / "m.jsonl")[0]["grad_norm"]
    assert norm > 0.1


def test_resuming_another_model_is_refused(tmp_path):
    torch.manual_seed(0)
    run(RegressorTrainer, Regressor(), tmp_path, steps=3).train()
    trainer = make(GanTrainer, Gan(), batches(3), SECTION, {"mel": 1.0}, max_steps=3)
    with pytest.raises(CheckpointError, match=r"made for another model: .*missing"):
        trainer.load_state_dict(checkpoint.load(checkpoint.path_of(tmp_path, 3)), "x")


class ForgetfulTrainer(RegressorTrainer):
    def losses(self, batch):
        for name, losses in super().losses(batch):
            yield name, {**losses, "forgotten": losses["size"]}


def test_a_loss_that_the_config_does_not_name_is_an_error_that_names_it():
    trainer = make(ForgetfulTrainer, Regressor(), batches(2), SECTION, {"mse": 1.0}, max_steps=2)
    with pytest.raises(ConfigError, match=r"losses\.forgotten: .* gives it no weight.* \(mse, size\).*self\.log"):
        trainer.train()
    with pytest.raises(ConfigError, match="forgotten"):
        trainer.evaluate("val")


class LoggingTrainer(RegressorTrainer):
    def losses(self, batch):
        yield from super().losses(batch)
        kept = masked_mean(batch["mask"].float(), batch["mask"])
        self.log({"double_step": 2.0 * self.step, "largest": batch["y"].max(), "kept": kept})


def test_values_that_are_no_losses_are_averaged_over_the_log_window_and_over_the_split(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writers, data = MultiWriter([JsonlWriter(path)]), batches(4)
    trainer = make(
        LoggingTrainer,
        Regressor(),
        data,
        SECTION,
        {"mse": 1.0},
        writers=writers,
        max_steps=4,
        log_every=2,
        eval_every=4,
    )
    values = trainer.train()
    logged = [row["double_step"] for row in rows(path) if row["split"] == "train"]
    assert logged == [1.0, 5.0]  # of steps 0 and 1, of steps 2 and 3
    assert values["val/double_step"] == 8.0
    assert values["val/kept"] == 1.0
    weighted = values["val/mse"] + values["val/size"]
    assert values["val/loss"] == pytest.approx(weighted)  # they are no part of the total


@pytest.mark.parametrize("name", ["mse", "loss", "lr", "step"])
def test_a_logged_value_may_not_take_a_name_that_is_in_use(name):
    trainer = make(RegressorTrainer, Regressor(), batches(2), SECTION, {"mse": 1.0}, max_steps=2)
    with pytest.raises(ConfigError, match=name):
        trainer.log({name: 1.0})


def test_logged_values_survive_a_resume():
    data = batches(4)
    whole = make(LoggingTrainer, Regressor(), data, SECTION, {"mse": 1.0}, max_steps=4, log_every=4)
    for batch in data[:3]:
        whole.train_step(dict(batch))
    again = make(LoggingTrainer, Regressor(), data, SECTION, {"mse": 1.0}, max_steps=4, log_every=4)
    again.load_state_dict(whole.state_dict(), "memory")
    assert again.logged.read() == whole.logged.read()


@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16, torch.float16])
def test_the_forward_passes_alone_are_in_the_precision_of_the_config(amp_dtype):
    trainer = make(RegressorTrainer, Regressor(), batches(1), SECTION, {"mse": 1.0}, max_steps=1, amp_dtype=amp_dtype)
    batch = dict(trainer.loader.batches[0])
    assert [torch.is_autocast_enabled("cpu") for _ in trainer.named_losses(batch)] == [False]
    assert batch["y"].dtype == (amp_dtype or torch.float32)


def test_metrics_are_told_the_split_and_get_every_batch():
    trainer = make(RegressorTrainer, Regressor(), batches(2), SECTION, {"mse": 1.0}, max_steps=2, eval_every=2)
    told = []
    trainer.update_metrics = lambda batch, split: told.append((split, batch["utterance_id"][0], "y" in batch))
    trainer.compute_metrics = lambda split: {"of": float(split == "val")}
    assert trainer.train()["val/of"] == 1.0
    assert told == [("val", "u0-0", True), ("val", "u1-0", True)]


def test_what_is_tried_without_trace_draws_the_same_numbers_each_time_and_leaves_none_drawn():
    trainer = make(RegressorTrainer, Regressor(), batches(1), SECTION, {"mse": 1.0}, max_steps=1)
    drawn, state = [], torch.get_rng_state()
    for _ in range(2):
        with trainer.without_trace():
            drawn.append(torch.rand(3).tolist())
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(8)
        state = torch.get_rng_state()
    assert drawn[0] == drawn[1]


def test_with_several_processes_a_signal_is_noticed_at_logged_steps_alone(monkeypatch):
    """Else one process would wait for an answer that the others are not asked for."""
    section = {"type": "SGD", "args": {"lr": 0.1}}
    trainer = make(RegressorTrainer, Regressor(), batches(4), section, {"mse": 1.0}, max_steps=8)
    asked = []
    monkeypatch.setattr(distributed, "active", lambda: True)
    monkeypatch.setattr(distributed, "gather", lambda value: asked.append(value) or [value, signal.SIGTERM])
    assert not trainer._interrupted(False)
    assert asked == []
    assert trainer._interrupted(True)  # the other one got it
    assert (asked, trainer.interrupts.received) == ([0], signal.SIGTERM)


def test_a_process_that_alone_freezes_a_parameter_between_logged_steps_names_it(monkeypatch):
    section = {"type": "SGD", "args": {"lr": 0.1}}
    trainer = make(RegressorTrainer, Regressor(), batches(4), section, {"mse": 1.0}, max_steps=8)
    (optimization,) = trainer.optimizations.values()
    count = torch.tensor(3)
    monkeypatch.setattr(distributed, "active", lambda: True)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "sum_over_processes", lambda sent: sent * 2)  # the other sends the same
    assert trainer.agreement.counts(optimization, [count], read=False) == [6]
    others = trainer.agreement._marks[optimization.name]
    name = optimization.names[0]
    optimization.parameters[0].requires_grad_(False)
    monkeypatch.setattr(distributed, "sum_over_processes", lambda sent: torch.stack([sent[0] * 2, sent[1] + others]))
    with pytest.raises(DisagreementError, match=f"train different parameters: process 0 changed {name}. Change what"):
        trainer.agreement.counts(optimization, [count], read=False)

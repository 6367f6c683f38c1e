"""Resuming with something changed, after a kill, with a full disk: right, or refused in one line."""

import copy
import errno
import shutil

import pytest
import torch

from hw_base import checkpoint
from hw_base.errors import CheckpointError, DivergedError, InterruptedRun
from hw_base.files import disk_space
from hw_base.writers import JsonlWriter, MultiWriter
from hw_base.writers.jsonl import read_rows
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

ADAM = {"type": "AdamW", "args": {"lr": 0.01}}


def trainer(folder=None, section=ADAM, n_batches=6, **options):
    torch.manual_seed(0)
    options = {"eval_every": 2, "monitor": "min val/mse", **options}
    return make(RegressorTrainer, Regressor(), batches(n_batches), section, {"mse": 1.0}, run_dir=folder, **options)


def scheduled(kind, every="step", **args):
    return {**ADAM, "scheduler": {"type": kind, "every": every, "args": args}}


SCHEDULES = [
    scheduled("OneCycleLR", max_lr=0.01), scheduled("CosineAnnealingLR"), scheduled("WarmupDecay", warmup_steps=3),
    scheduled("ExponentialLR", gamma=0.9), scheduled("StepLR", "epoch", step_size=1, gamma=0.5), ADAM,
]  # fmt: skip


def rates(run, steps):
    found = []
    for i in range(steps):
        found.append(run.optimizations["model"].lr)
        run.train_step(run.loader.batches[i % len(run.loader)])
    return found


@pytest.mark.parametrize("section", SCHEDULES, ids=lambda section: section.get("scheduler", {}).get("type", "none"))
def test_a_changed_rate_and_length_give_the_schedule_of_the_new_config(section):
    """As if the run had always had it: also where the rate had been 0."""
    old = trainer(section={**section, "args": {"lr": 0.0}}, max_steps=12)
    rates(old, 7)
    new = trainer(section=section, max_steps=24)
    new.load_state_dict(old.state_dict(), "x")
    fresh = trainer(section=section, max_steps=24)
    rates(fresh, 7)
    assert rates(new, 8) == pytest.approx(rates(fresh, 8))


def test_an_unchanged_config_restores_the_rate_to_the_bit():
    for section in SCHEDULES:
        old, new = trainer(section=section, max_steps=24), trainer(section=section, max_steps=24)
        rates(old, 7)
        new.load_state_dict(copy.deepcopy(old.state_dict()), "x")
        assert rates(new, 8) == rates(old, 8)


def test_another_type_of_schedule_begins_where_the_run_stands():
    old = trainer(section=SCHEDULES[0], max_steps=24)
    rates(old, 7)
    new, fresh = (trainer(section=SCHEDULES[2], max_steps=24) for _ in range(2))
    new.load_state_dict(old.state_dict(), "x")
    rates(fresh, 7)
    assert rates(new, 4) == pytest.approx(rates(fresh, 4))


@pytest.mark.parametrize("other", ["SGD", "Adagrad", "RMSprop"])
def test_another_optimizer_is_refused_or_starts_anew(other):
    old = trainer(max_steps=6)
    rates(old, 3)
    new = trainer(section={"type": other, "args": {"lr": 0.01}}, max_steps=6)
    if other == "SGD":
        new.load_state_dict(old.state_dict(), "x")  # which needs nothing of what Adam remembers
        assert rates(new, 1) == [0.01]
        return
    with pytest.raises(CheckpointError, match=f"holds .*exp_avg.*{other} needs"):
        new.load_state_dict(old.state_dict(), "x")


def test_amsgrad_switched_on_while_resuming_is_refused_by_name():
    old = trainer(max_steps=6)
    rates(old, 3)
    new = trainer(section={"type": "AdamW", "args": {"lr": 0.01, "amsgrad": True}}, max_steps=6)
    with pytest.raises(CheckpointError, match=r"AdamW needs .*max_exp_avg_sq"):
        new.load_state_dict(old.state_dict(), "x")


@pytest.mark.parametrize(("before", "now", "place"), [(6, 3, (1, 1)), (3, 6, (2, 4)), (6, 6, (1, 2)), (6, 4, (1, 1))])
def test_epochs_that_are_left_are_trained_whatever_their_number_of_batches(before, now, place, caplog):
    old = trainer(n_batches=before, epochs=3)
    rates(old, 8)
    new = trainer(n_batches=now, epochs=5, section=SCHEDULES[2])
    new.load_state_dict(old.state_dict(), "x")
    assert (new.epoch, new.batch) == place
    said = f"has {now} batches now, {before} before: training continues at batch {place[1] + 1} of epoch {place[0] + 1}"
    assert (said in caplog.text) is (before != now)
    new.train()
    assert (new.epoch, new.batch) == (5, 0)
    assert new.step == 8 + 5 * now - (place[0] * now + place[1])
    assert new.optimizations["model"].lr == pytest.approx(0.0, abs=1e-9)  # the schedule ends with the run


@pytest.mark.parametrize(("steps", "place"), [(8, (1, 1)), (5, (1, 0))])
def test_old_checkpoints_do_not_say_how_many_batches_an_epoch_had(steps, place):
    """In the first epoch as many as were seen are known, or as there are now."""
    old = trainer(n_batches=6, epochs=3)
    rates(old, steps)
    state = old.state_dict()
    del state["batches_per_epoch"]
    new = trainer(n_batches=3, epochs=3)
    new.load_state_dict(state, "x")
    assert (new.epoch, new.batch) == place


def test_evaluations_stay_at_the_ends_of_epochs_after_a_resume_with_other_batches(tmp_path):
    old = trainer(n_batches=6, epochs=2)
    rates(old, 6)
    writers = MultiWriter([JsonlWriter(tmp_path / "m.jsonl")])
    new = trainer(n_batches=4, epochs=3, eval_every="1 epoch", writers=writers)
    new.load_state_dict(old.state_dict(), "x")
    new.train()
    assert [row["step"] for row in read_rows(tmp_path / "m.jsonl") if row["split"] == "val"] == [6, 10, 14]


def test_another_monitor_seeks_the_best_anew(tmp_path, caplog):
    section = {**ADAM, "scheduler": {"type": "ReduceLROnPlateau", "every": "evaluation", "args": {"patience": 0}}}
    old = trainer(tmp_path, section, max_steps=6, keep_best=2)
    old.train()
    new = trainer(tmp_path, section, max_steps=10, keep_best=2, early_stop=3, monitor="max val/size")
    new.load_state_dict(checkpoint.load(checkpoint.path_of(tmp_path, 6)), "x")
    assert (new.monitor.best, new.monitor.stale, new.monitor.ranking) == (None, 0, [])
    assert new.optimizations["model"].scheduler.best == float("inf")
    assert "trainer.monitor is max val/size now, it was min val/mse" in caplog.text
    new.train()
    assert new.monitor.best_step > 6
    assert checkpoint.best_step(tmp_path) == new.monitor.best_step


@pytest.mark.parametrize("loss", ["nothing", "marking", "file", "folder"])
def test_the_best_checkpoint_and_the_monitor_agree_after_a_resume(tmp_path, loss):
    """Nothing amiss; a kill between saving and marking; a deleted file; a run that continues in another folder."""
    old = trainer(tmp_path / "a", max_steps=4)
    old.train()
    best = old.monitor.best_step
    folder, source = tmp_path / "a", checkpoint.path_of(tmp_path / "a", 4)
    if loss == "marking":
        checkpoint.mark_best(checkpoint.path_of(folder, 2))
    elif loss == "file":
        (folder / checkpoint.BEST).unlink()
    elif loss == "folder":
        folder = tmp_path / "b"
        folder.mkdir()
    new = trainer(folder, max_steps=4)
    new.load_state_dict(checkpoint.load(source), source)
    new.repair_folder(source)
    assert (new.monitor.best_step, new.monitor.best) == (best, old.monitor.best)
    assert checkpoint.best_step(folder) == best


def test_a_best_checkpoint_that_is_gone_is_not_claimed(tmp_path, caplog):
    old = trainer(tmp_path, max_steps=6)
    old.train()
    old.monitor.best_step = 1
    (tmp_path / checkpoint.BEST).unlink()
    new = trainer(tmp_path, max_steps=8)
    new.load_state_dict(old.state_dict(), "x")
    new.repair_folder(checkpoint.path_of(tmp_path, 6))
    assert new.monitor.best is None
    assert "of step 1, is missing; the next evaluation becomes the best" in caplog.text
    new.train()
    assert checkpoint.best_step(tmp_path) == new.monitor.best_step == 8


def test_checkpoints_that_a_killed_process_had_yet_to_delete_are_deleted_on_resuming(tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(checkpoint, "prune", lambda *_: None)
        trainer(tmp_path, max_steps=6, save_every=1, keep=2).train()
    assert len(checkpoint.numbered(tmp_path)) == 6
    source = checkpoint.path_of(tmp_path, 6)
    new = trainer(tmp_path, max_steps=6, save_every=1, keep=2)
    new.load_state_dict(checkpoint.load(source), source)
    new.repair_folder(source)
    steps = {6, 5, *new.monitor.best_steps}
    assert checkpoint.numbered(tmp_path) == [checkpoint.path_of(tmp_path, n) for n in sorted(steps, reverse=True)]


@pytest.mark.parametrize(("changed", "spared"), [({"section": {**ADAM, "args": {"lr": 0.02}}}, True), ({}, False)])
def test_the_checkpoint_resumed_from_is_spared_where_the_config_changes_more_than_the_length(tmp_path, changed, spared):
    options = {"monitor": None, "keep": 2, "save_every": 2}
    trainer(tmp_path, max_steps=2, **options).train()
    new = trainer(tmp_path, max_steps=6, **options, **changed)
    new.load_state_dict(checkpoint.load(checkpoint.path_of(tmp_path, 2)), "x")
    new.train()
    assert [checkpoint.step_of(path) for path in checkpoint.numbered(tmp_path)] == [6, 4, 2][: 2 + spared]


def test_a_best_of_the_steps_that_are_repeated_stays_marked(tmp_path, caplog):
    """From step 2 on they are trained again in the same folder, and step 6 will be the best again."""
    trainer(tmp_path, max_steps=6, keep=9).train()
    assert checkpoint.best_step(tmp_path) == 6
    source = checkpoint.path_of(tmp_path, 2)
    new = trainer(tmp_path, max_steps=6)
    new.load_state_dict(checkpoint.load(source), source)
    new.repair_folder(source)
    assert (checkpoint.best_step(tmp_path), new.monitor.best_step) == (6, 2)
    assert "is that of step" not in caplog.text


def full(path, state):
    raise CheckpointError(f"{path}: not written: {errno.errorcode[errno.ENOSPC]}")


def disk_full_at(monkeypatch, *steps):
    save = checkpoint.save

    def at(path, state):
        (full if state["step"] in steps else save)(path, state)

    monkeypatch.setattr(checkpoint, "save", at)


def test_a_best_that_could_not_be_written_does_not_count(tmp_path, monkeypatch):
    run = trainer(tmp_path, max_steps=8)
    disk_full_at(monkeypatch, 4)
    run.train()
    assert run.monitor.best_step == 8
    assert checkpoint.best_step(tmp_path) == 8


def test_a_failure_to_save_is_reported_once_and_again_after_a_success(tmp_path, monkeypatch, caplog):
    save = checkpoint.save

    def at(path, state):
        if state["step"] in (2, 6):
            raise CheckpointError("no room")
        save(path, state)

    monkeypatch.setattr(checkpoint, "save", at)
    trainer(tmp_path, max_steps=8).train()
    assert caplog.text.count("no room; training continues with the older checkpoints") == 2


def test_a_run_whose_best_or_last_checkpoint_could_not_be_written_fails(tmp_path, monkeypatch):
    disk_full_at(monkeypatch, 4)
    run = trainer(tmp_path, max_steps=6)
    evaluate, worse = run.evaluate, {2: 0.0, 4: -1.0, 6: 5.0}
    run.evaluate = lambda split: {**evaluate(split), "mse": worse[run.step]}
    with pytest.raises(CheckpointError, match=r"the best val/mse, -1\.0000 at step 4, could not be saved"):
        run.train()
    assert checkpoint.best_step(tmp_path) == run.monitor.best_step == 2
    assert checkpoint.load(checkpoint.path_of(tmp_path, 6))["monitor"]["best_step"] == 2
    disk_full_at(monkeypatch, 6)
    with pytest.raises(CheckpointError, match="ENOSPC"):
        trainer(tmp_path, max_steps=6).train()


def test_an_interrupt_says_whether_its_checkpoint_was_written(tmp_path, monkeypatch):
    for steps, expected in (((), "all is saved"), ((1,), "could NOT be saved")):
        disk_full_at(monkeypatch, *steps)
        run = trainer(tmp_path, max_steps=6)
        run.interrupts.received = 15
        run.interrupts._note = lambda *_: None
        with pytest.raises(InterruptedRun, match=expected):
            run.train()


def test_a_disk_without_room_for_a_checkpoint_is_found_before_training(tmp_path, monkeypatch, caplog):
    run = trainer(tmp_path, max_steps=2, keep_best=3)
    usage = shutil.disk_usage(tmp_path)
    one = 10_000
    for free, refused in ((one, True), (3 * one, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        if refused:
            with pytest.raises(CheckpointError, match=r"too full to train: 7 checkpoints of 1 MiB need 1 MiB"):
                disk_space.check(tmp_path, one, 7)
        else:
            disk_space.check(tmp_path, one, 7)
            assert "the disk may become full" in caplog.text
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=0))
    with pytest.raises(CheckpointError, match=rf"too full to train: {run.section.keep + 2 + 3} checkpoints of"):
        run.check_space()
    monkeypatch.undo()
    run.check_space()
    state = run.state_dict()
    estimate = disk_space.size_of({**state, "optimizations": None}) + run.optimizations["model"].moments_size()
    run.train()
    assert estimate == pytest.approx(checkpoint.path_of(tmp_path, 2).stat().st_size, rel=1.0)


def test_an_evaluation_that_was_interrupted_is_reported_once(tmp_path):
    """The first split's rows are not written when a signal comes in the second one."""
    for name in ("whole", "parts"):
        folder = tmp_path / name
        run = trainer(folder, max_steps=4, writers=MultiWriter([JsonlWriter(folder / "m.jsonl")]))
        evaluate = run.evaluate

        def twice(split, run=run, evaluate=evaluate, name=name):
            values = evaluate(split)
            run.setup.writers.text(f"{split}/note", "seen", run.step)
            if name == "parts" and run.step == 2:
                raise InterruptedRun(15, "in the second split")
            return values

        run.evaluate = twice
        if name == "parts":
            with pytest.raises(InterruptedRun):
                run.train()
            run = trainer(folder, max_steps=4, writers=MultiWriter([JsonlWriter(folder / "m.jsonl")]))
            run.load_state_dict(checkpoint.load(checkpoint.path_of(folder, 2)), "x")
            run.evaluate, evaluate = twice, run.evaluate
            run.evaluate = lambda split, run=run, evaluate=evaluate: (
                run.setup.writers.text(f"{split}/note", "seen", run.step) or evaluate(split)
            )
        run.train()
    one, other = ([(r["step"], r.get("text")) for r in read_rows(tmp_path / n / "m.jsonl")] for n in ("whole", "parts"))
    assert sorted(one, key=str) == sorted(other, key=str)


def test_the_counts_of_bad_updates_go_on_after_a_resume():
    data = batches(6)
    for batch in data[2:]:
        batch["target"] = torch.full_like(batch["target"], torch.nan)

    def poisoned():
        torch.manual_seed(0)
        options = {"max_steps": 6, "max_bad_steps": 3, "eval_every": 100}
        return make(RegressorTrainer, Regressor(), data, ADAM, {"mse": 1.0}, **options)

    old, new = poisoned(), poisoned()
    rates(old, 4)
    old.guard.read()
    new.load_state_dict(old.state_dict(), "x")
    assert (new.guard.skipped, new.guard.in_row) == (2, {"model": 2})
    with pytest.raises(DivergedError, match="3 skipped so far, 3 in a row"):
        new.train()
    assert new.step == 5


def test_what_was_thawed_is_trained_after_a_resume():
    section = {**ADAM, "freeze": ["net.0.*"], "thaw": {"net.0.*": 1}}
    old, new = (trainer(section=section, n_batches=3, max_steps=9) for _ in range(2))
    rates(old, 4)
    assert not new.model.net[0].weight.requires_grad
    new.load_state_dict(old.state_dict(), "x")
    assert new.model.net[0].weight.requires_grad
    early = trainer(section=section, n_batches=3, max_steps=9)
    rates(early, 2)
    new = trainer(section=section, n_batches=3, max_steps=9)
    new.load_state_dict(early.state_dict(), "x")
    assert not new.model.net[0].weight.requires_grad


PLATEAU = {"type": "ReduceLROnPlateau", "every": "evaluation", "args": {"patience": 1, "factor": 0.5}}


def test_a_plateau_lowers_the_rate_after_evaluations_without_improvement():
    run = trainer(section={**ADAM, "scheduler": PLATEAU}, max_steps=10, eval_every=2)
    evaluate = run.evaluate
    run.evaluate = lambda split: {**evaluate(split), "mse": {2: 1.0, 4: 2.0, 6: 2.0, 8: 0.5, 10: 0.4}[run.step]}
    run.train()
    assert run.optimizations["model"].lr == 0.005
    new = trainer(section={**ADAM, "args": {"lr": 0.1}, "scheduler": PLATEAU}, max_steps=12)
    new.load_state_dict(run.state_dict(), "x")
    assert new.optimizations["model"].lr == pytest.approx(0.05)  # what was lowered stays lowered
    assert new.optimizations["model"].scheduler.best == 0.4

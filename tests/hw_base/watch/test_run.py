"""Watchers of the run as a whole."""

from dataclasses import replace

from hw_base.watch.diagnosis import Diagnosis, Given, Optimizing, Seen, Watch, Watcher
from hw_base.watch.run import Data, Divergence, LossScale, Mode, OneLoss, Overfitting, Schedule, Starving

ADAM = Optimizing(lr=1e-3, base_lr=1e-3, clip_norm=5.0, weight_decay=0.01, loss_scale=None, every="step")


def names(watcher, values=(), evaluations=(), optimizers=(), device="cpu", **more):
    found = set()
    for i in range(max(len(values), len(evaluations), len(optimizers))):
        row = values[i] if i < len(values) else {"loss": 1.0}
        evaluation = evaluations[i] if i < len(evaluations) else {}
        optimizer = optimizers[i] if i < len(optimizers) else ADAM
        seen = Seen(10 * i + 10, 200, row, evaluation, {}, (), {"model": optimizer}, device, **more)
        found |= {one.name for one in watcher.look(seen)}
    return found


def losses(*values):
    return [{"loss": value} for value in values]


def test_a_loss_that_grows_diverges_and_one_that_jitters_does_not():
    assert names(Divergence(), losses(8, 4, 3, 30, 40, 50)) == {"diverging"}
    assert names(Divergence(), losses(8, 4, 3, 5, 3, 30, 3, 5, 4, 6)) == set()


def test_validation_that_leaves_training_is_overfitting():
    rising = [{"val/loss": value} for value in (3, 2, 2.8, 2.9, 3.1)]
    assert names(Overfitting(), losses(3, 2, 1, 0.5, 0.2), rising) == {"overfitting"}
    assert names(Overfitting(), losses(3, 2, 2.1, 2.2, 2.5), rising) == set()


def test_a_schedule_that_never_arrives_or_ends_too_soon_is_named():
    slow = [replace(ADAM, lr=1e-5)] * 20
    assert names(Schedule(), optimizers=slow) == {"schedule_too_slow"}
    fast = [replace(ADAM, lr=1e-3 * 0.1**i) for i in range(8)]
    assert names(Schedule(), optimizers=fast) == {"schedule_too_fast"}
    assert names(Schedule(), optimizers=[replace(ADAM, lr=1e-3 * (1 - i / 20)) for i in range(20)]) == set()


def test_the_end_of_a_schedule_is_not_taken_for_a_slow_one_where_a_run_is_resumed():
    watcher, small = Schedule(), {"model": replace(ADAM, lr=1e-5)}
    assert not [found for step in range(160, 200, 10) for found in watcher.look(Seen(step, 200, {}, {}, {}, (), small))]


def test_a_loss_scale_that_sinks_is_named():
    scales = [replace(ADAM, loss_scale=65536.0 / 4**i) for i in range(8)]
    assert names(LossScale(), optimizers=scales) == {"loss_scale_sinks"}
    assert names(LossScale(), optimizers=[replace(ADAM, loss_scale=32768.0)] * 8) == set()


def given(ids, steps, per_epoch=50, looks=6):
    """What `Data` says where each of some looks comes after so many steps with these utterances."""
    watcher, found = Data(), []
    for look in range(looks):
        names = [name for step in range(steps) for name in ids(steps * look + step)]
        one = Given(frozenset(names), len(names), steps, per_epoch)
        found += watcher.look(Seen(steps * (look + 1), 200, {"loss": 1.0}, {}, {}, given=one))
    return found


def test_a_batch_that_is_given_again_and_again_is_named():
    (found,) = given(lambda step: ["a", "b"], steps=5)
    assert (found.name, found.sentence) == ("same_utterances", "training sees the same 2 utterances again and again")
    assert found.evidence == {"given": 40, "steps": 20, "batches of an epoch": 50, "names": ["a", "b"]}


def test_epochs_of_a_small_split_and_a_large_one_are_in_order():
    assert not given(lambda step: ["a", "b"], steps=5, per_epoch=1)
    assert not given(lambda step: [str(step % 10), str(step % 10 + 10)], steps=5, per_epoch=10)
    assert not given(lambda step: [str(2 * step), str(2 * step + 1)], steps=30, per_epoch=10**6)
    assert not given(lambda step: ["a", "b"], steps=3, looks=6)  # too few steps to tell


def test_training_in_evaluation_mode_is_named():
    watcher, row = Mode(), {"loss": 1.0}

    def look(values, evaluating):
        return [one.name for one in watcher.look(Seen(10, 200, values, {}, {}, evaluating=evaluating))]

    assert look(row, ["model"]) + look(row, ["model"]) + look(row, []) == []
    assert (
        look(row, ["model"]) + look({}, ["model"]) + look(row, ["model"]) == []
    )  # between logged steps it says nothing
    assert look(row, ["model"]) == ["evaluation_mode"]


def test_a_device_that_waits_for_data_starves_and_a_cpu_does_not():
    waiting = [{"loss": 1.0, "data_wait": 0.8}] * 6
    assert names(Starving(), waiting, device="cuda") == {"loader_starves"}
    assert names(Starving(), waiting) == set()


class Says(Watcher):
    follows = {"effect": frozenset({"cause"})}

    def __init__(self, *names):
        self.names = names

    def look(self, seen):
        yield from (Diagnosis(name, "it is so", {}, [], "wait") for name in self.names)


def test_what_follows_from_a_finding_is_not_said_beside_it():
    def said(*watchers):
        watch = Watch(watchers, None)
        watch.look(Seen(10, 200, {"loss": 1.0}, {}, {}))
        return [one.name for _, one in watch.found]

    assert said(Says("cause", "effect", "other")) == ["cause", "other"]
    assert said(Says("effect"), Says("cause")) == ["effect", "cause"]


def test_one_loss_that_is_everything_is_named():
    weights = {"mel": 45.0, "adversarial": 1.0}
    assert names(OneLoss(weights), [{"mel": 1e3, "adversarial": 1.0}] * 12) == {"one_loss_dominates"}
    assert names(OneLoss(weights), [{"mel": 1.0, "adversarial": 5.0}] * 12) == set()

"""The best evaluation and the bad updates, counted exactly: what a loop only shows after many steps."""

import pytest
import torch

from hw_base.errors import DivergedError
from hw_base.training.guard import UNBOUNDED, Guard
from hw_base.training.last_good import LastGood
from hw_base.training.monitor import Monitor
from tests.hw_base.toys import Regressor


def followed(*values, rule="min val/wer", patience=None, keep=0):
    monitor = Monitor(rule, patience, keep)
    return monitor, [monitor.update(value, step) for step, value in enumerate(values, 1)]


def test_a_tie_is_no_improvement():
    monitor, better = followed(1.0, 1.0, 0.5, 0.5)
    assert better == [True, False, True, False]
    assert (monitor.best, monitor.best_step, monitor.stale) == (0.5, 3, 1)


@pytest.mark.parametrize(("rule", "sign"), [("min val/wer", 1.0), ("max val/wer", -1.0)])
def test_patience_counts_evaluations_since_the_best(rule, sign):
    monitor, _ = followed(3.0 * sign, 2.0 * sign, 2.5 * sign, 2.6 * sign, rule=rule, patience=3)
    assert (monitor.stale, monitor.exhausted) == (2, False)
    monitor.update(2.7 * sign, 5)
    assert (monitor.stale, monitor.exhausted) == (3, True)
    monitor.update(1.0 * sign, 6)
    assert (monitor.stale, monitor.exhausted) == (0, False)


def test_what_was_forgotten_leaves_nothing():
    monitor, _ = followed(1.0, 0.5)
    monitor.forget_best()
    assert (monitor.best, monitor.best_step) == (None, 0)


@pytest.mark.parametrize(("rule", "sign"), [("min val/wer", 1.0), ("max val/wer", -1.0)])
def test_the_best_of_those_that_could_not_be_written_is_remembered(rule, sign):
    monitor, _ = followed(5.0 * sign, rule=rule, keep=2)

    def lose(value, step):
        before = monitor.state_dict()
        monitor.update(value * sign, step)
        monitor.undo(before, value * sign, step)

    lose(6.0, 2)  # no improvement: nothing is lost
    assert (monitor.lost, monitor.best, monitor.best_steps) == (None, 5.0 * sign, {1})
    for step, value in ((3, 3.0), (4, 4.0), (5, 3.0), (6, 2.0)):
        lose(value, step)
    assert monitor.lost_best == (2.0 * sign, 6)
    assert (monitor.best, monitor.best_step) == (5.0 * sign, 1)
    monitor.update(2.5 * sign, 7)
    assert monitor.lost_best == (2.0 * sign, 6)
    monitor.update(2.0 * sign, 8)
    assert monitor.lost_best is None


def record(guard, step, loss, taken=True):
    guard.record(step, "g", torch.tensor(taken), {"loss": torch.tensor(loss)}, [f"u{step}"])
    guard.read()


def test_a_loss_is_unbounded_from_ten_thousand_times_the_first_on():
    guard = Guard(2)
    record(guard, 1, -3.0)
    assert guard.clean
    record(guard, 2, 3.0 * UNBOUNDED)
    assert guard.clean
    record(guard, 3, -3.1 * UNBOUNDED)
    assert not guard.clean
    assert guard.in_trouble
    assert guard.large_in_row == {"g": 1}
    record(guard, 4, 1.0)
    assert not guard.in_trouble
    again = Guard(2)
    record(guard, 5, 4.0 * UNBOUNDED)
    again.load_state_dict(guard.state_dict())
    assert (again.first, again.large_in_row) == ({"g": 3.0}, {"g": 1})
    with pytest.raises(DivergedError, match=r"step 6: the loss of 'g' grows without bound: 4e\+04, .* 3 \(2 such"):
        record(again, 6, 4.0 * UNBOUNDED)
    old = Guard(2)
    old.load_state_dict({"skipped": 1, "in_row": {"g": 1}})
    assert (old.first, old.large_in_row) == ({}, {})


def test_a_small_first_loss_does_not_make_later_ones_large():
    guard = Guard(1)
    record(guard, 1, 1e-6)
    record(guard, 2, 1e3)
    assert guard.clean


def test_a_read_without_updates_tells_nothing():
    guard = Guard(1)
    record(guard, 1, 1.0)
    guard.read()
    assert not guard.clean


def test_weights_count_as_good_once_their_loss_was_looked_at():
    model = Regressor()
    weight = model.net[0].weight
    kept = LastGood(model, None)
    with torch.no_grad():
        for value, confirmed in ((1.0, True), (2.0, True), (3.0, False)):
            weight.fill_(value)
            kept.propose()
            if confirmed:
                kept.confirm()
                kept.confirm()  # without a new proposal it says nothing
        weight.fill_(9.0)
    kept.restore()
    assert float(weight.detach()[0, 0]) == 2.0


def test_without_good_weights_nothing_is_restored():
    model = Regressor()
    before = model.net[0].weight.clone()
    kept = LastGood(model, None)
    kept.propose()
    kept.restore()
    assert torch.equal(model.net[0].weight, before)


def test_the_monitor_is_restored_whole():
    monitor, _ = followed(3.0, -2.0, 2.5, rule="max val/stoi", keep=2)
    again = Monitor("max val/stoi", keep=2)
    again.load_state_dict(monitor.state_dict())
    assert again.key == "val/stoi"
    assert again.state_dict() == monitor.state_dict()
    assert (again.best, again.best_step, again.stale) == (3.0, 1, 2)
    assert again.ranking == [(-3.0, 1), (-2.5, 3)]
    assert Monitor(None).key is None


def test_the_best_by_another_rule_is_not_restored(caplog):
    monitor, _ = followed(3.0, keep=1)
    other = Monitor("max val/stoi", keep=1)
    other.load_state_dict(monitor.state_dict())
    assert (other.best, other.best_step, other.stale, other.ranking) == (None, 0, 0, [])
    assert "trainer.monitor is max val/stoi now, it was min val/wer" in caplog.text


def test_the_first_bad_update_counts_once(caplog):
    guard = Guard(2)
    guard.record(
        1, "g", torch.tensor(False), {"ctc": torch.tensor(torch.nan), "loss": torch.tensor(1.0)}, list("abcdefgh")
    )
    guard.read()
    assert (guard.skipped, guard.in_row) == (1, {"g": 1})
    expected = "step 1: update of 'g' skipped, not finite: ctc; utterances a, b, c, d, e, f, g, h (1 skipped so"
    assert expected in caplog.text
    values = {"ctc": torch.tensor(torch.inf), "loss": torch.tensor(torch.nan)}
    guard.record(2, "g", torch.tensor(False), values, list("abcdefghi"))
    with pytest.raises(DivergedError, match=r"not finite: ctc, loss; utterances a, b, c, d, e, f, g, h \.\.\. \(2"):
        guard.read()


def test_the_first_large_loss_counts_once():
    guard = Guard(2)
    guard.first["g"] = 1.0
    record(guard, 1, 1.1 * UNBOUNDED)
    assert guard.large_in_row == {"g": 1}


def test_running_statistics_are_restored_with_the_weights():
    model = Regressor()
    model.net.append(torch.nn.BatchNorm1d(5))
    kept = LastGood(model, None)
    kept.propose()
    kept.confirm()
    model.net[-1].running_mean.fill_(7.0)
    kept.restore()
    assert float(model.net[-1].running_mean.max()) == 0.0

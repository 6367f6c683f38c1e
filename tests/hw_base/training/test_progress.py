"""Rate, share of waiting and time left, by a clock that the test moves."""

import logging
import time

import pytest

from hw_base.training.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pass_seconds(seconds):
        now[0] += seconds

    return pass_seconds


def test_rate_and_waiting_are_those_since_they_were_last_read(clock):
    progress = Progress(10, 40)
    for _ in range(4):
        with progress.waiting():
            clock(0.5)
        clock(1.5)
        progress.advance()
    assert progress.data_wait() == pytest.approx(0.25)
    assert progress.rate() == pytest.approx(0.5)
    clock(4.0)
    progress.advance()
    assert (progress.data_wait(), progress.rate()) == (0.0, pytest.approx(0.25))


def test_an_evaluation_is_left_out_of_the_rate_but_not_of_the_time_left(clock, caplog):
    caplog.set_level(logging.INFO)
    progress = Progress(10, 40)
    assert progress.left() == ""
    with progress.waiting():
        clock(1.0)
    progress.advance()
    clock(19.0)
    progress.restart_clock()
    clock(1.0)
    progress.advance()
    progress.advance()
    assert (progress.data_wait(), progress.rate()) == (0.0, pytest.approx(2.0))
    progress.show({"loss": 1.23456, "lr": 0.5})
    assert "step 13/40: loss 1.235, lr 0.5, 0:03:09 left" in caplog.text  # 27 more, three in 21 s

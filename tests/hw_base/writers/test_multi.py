"""Several writers as one: a failing one never stops the others."""

import logging
import os
import subprocess
import sys
import threading

import pytest
import torch

from hw_base.writers import JsonlWriter, MultiWriter, Writer, multi, read_rows
from tests.conftest import ROOT
from tests.hw_base.writers.test_writers import image


class Remembering(Writer):
    def __init__(self):
        self.calls = []
        self.fails = False

    def _take(self, *call):
        if self.fails:
            raise RuntimeError("no connection")
        self.calls.append(call)

    def scalars(self, values, step):
        self._take("scalars", dict(values), step)

    def audio(self, name, waveform, sample_rate, step, caption=""):
        self._take("audio", name, sample_rate, step)

    def image(self, name, image, step, caption=""):
        self._take("image", name, image.shape, step)

    def text(self, name, text, step):
        self._take("text", name, text, step)

    def table(self, name, columns, rows, step):
        self._take("table", name, columns, rows, step)

    def state_dict(self):
        return {"calls": len(self.calls)}

    def load_state_dict(self, state, step):
        self._take("load", dict(state), step)

    def close(self):
        self._take("close")


def report_everything(writer, step=1):
    writer.scalars({"train/a": 1.0}, step)
    writer.audio("val/s", torch.zeros(4), 8000, step)
    writer.image("val/i", image(), step)
    writer.text("val/x", "text", step)
    writer.table("val/t", ["a"], [[1]], step)


def test_every_writer_gets_everything():
    first, second = Remembering(), Remembering()
    writer = MultiWriter([first, second])
    report_everything(writer)
    writer.close()
    assert [call[0] for call in first.calls] == ["scalars", "audio", "image", "text", "table", "close"]
    assert first.calls == second.calls
    report_everything(MultiWriter())


def test_a_writer_that_raises_never_stops_the_others(caplog):
    bad, good = Remembering(), Remembering()
    bad.fails = True
    writer = MultiWriter([bad, good], patience=3)
    for step in range(5):
        writer.scalars({"train/a": 1.0}, step)
    errors = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "Remembering: scalars failed" in errors[0]
    assert "no connection" in errors[0]
    assert errors[1] == "Remembering failed 3 times in a row and is disabled"
    assert writer.active == ["Remembering 2"]
    assert [call[2] for call in good.calls] == [0, 1, 2, 3, 4]
    bad.fails = False
    writer.scalars({"train/a": 1.0}, 6)
    assert bad.calls == []
    writer.close()
    assert bad.calls == [("close",)]


def test_a_tracker_that_never_answers_is_disabled_and_the_end_comes_in_time(caplog):
    release, good = threading.Event(), Remembering()

    class Stopped(Remembering):
        def scalars(self, values, step):
            release.wait(60)

    class StopsAtTheEnd(Remembering):
        def close(self):
            release.wait(60)

    writer = MultiWriter([Stopped(), StopsAtTheEnd(), good], seconds=0.2, close_seconds=0.2)
    for step in range(5):
        writer.scalars({"train/a": 1.0}, step)
    assert writer.active == ["StopsAtTheEnd", "Remembering"]
    writer.close()
    assert [call[2] for call in good.calls[:-1]] == [0, 1, 2, 3, 4]
    assert good.calls[-1] == ("close",)
    assert [record.message.partition(" did")[0] for record in caplog.records] == [
        "Stopped: scalars", "StopsAtTheEnd: close"
    ]  # fmt: skip
    assert {"Stopped", "StopsAtTheEnd"} <= multi.HUNG
    multi.HUNG.clear()
    release.set()


_LEAVE = """
import sys, threading
from hw_base.runs.cli import leave
from hw_base.writers import multi
threading.Thread(target=threading.Event().wait).start()
multi.HUNG.add("x")
leave(7)
"""


def test_a_program_ends_although_a_tracker_holds_a_thread():
    done = subprocess.run([sys.executable, "-c", _LEAVE], cwd=ROOT, timeout=60)
    assert done.returncode == 7


@pytest.mark.parametrize("end", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_tracker_that_ends_the_program_ends_only_itself(end, caplog):
    bad, good = Remembering(), Remembering()

    def take(*call):
        raise end

    bad._take = take
    writers = MultiWriter([bad, good], patience=2)
    for step in range(3):
        writers.scalars({"train/x": 1.0}, step)
    assert [step for _, _, step in good.calls] == [0, 1, 2]
    assert f"failed, training continues: RuntimeError: {type(end).__name__}" in caplog.text
    assert writers.active == ["Remembering 2"]


def test_the_state_of_a_tracker_that_hangs_is_the_last_one_known():
    slow, release = Remembering(), threading.Event()
    writers = MultiWriter([slow], seconds=0.1)
    writers.load_state_dict({"Remembering": {"calls": 7}}, 3)
    slow.state_dict = lambda: release.wait(20) and {}
    assert writers.state_dict() == {"Remembering": {"calls": 7}}
    assert writers.state_dict() == {"Remembering": {"calls": 7}}
    assert writers.active == []
    release.set()


def test_a_success_in_between_forgives():
    flaky = Remembering()
    writer = MultiWriter([flaky], patience=2)
    for step in range(8):
        flaky.fails = step % 2 == 0
        writer.scalars({"train/a": 1.0}, step)
    assert writer.active == ["Remembering"]
    assert [call[2] for call in flaky.calls] == [1, 3, 5, 7]


def test_the_record_is_never_given_up(tmp_path):
    (tmp_path / "place").write_text("a file where the folder should be")
    writer = MultiWriter([JsonlWriter(tmp_path / "place" / "m.jsonl")], patience=2)
    for step in range(5):
        writer.scalars({"train/a": 1.0}, step)
    os.remove(tmp_path / "place")
    writer.scalars({"train/a": 1.0}, 5)
    assert [row["step"] for row in read_rows(tmp_path / "place" / "m.jsonl")] == [5]


def test_state_goes_back_to_the_writer_it_came_from(tmp_path):
    first, second = Remembering(), Remembering()
    writer = MultiWriter([JsonlWriter(tmp_path / "m.jsonl"), first, second])
    second.text("a", "b", 1)
    state = writer.state_dict()
    assert state == {"JsonlWriter": {}, "Remembering": {"calls": 0}, "Remembering 2": {"calls": 1}}
    again = [Remembering(), Remembering(), Remembering()]
    MultiWriter(again).load_state_dict(state, 8)
    assert [writer.calls for writer in again] == [
        [("load", {"calls": 0}, 8)],
        [("load", {"calls": 1}, 8)],
        [("load", {}, 8)],
    ]

"""Signals in a step, in an evaluation and while a checkpoint is written; and a second one."""

import functools
import os
import signal
import time
from pathlib import Path

from hw_base import checkpoint
from hw_base.training.trainer import BaseTrainer
from tests.faults import runs
from tests.faults.rows.kills import SHORT
from tests.faults.table import row

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75, signal.SIGHUP: 129}
PLACES = ("step", "evaluation", "saving")


def signalled(place, number, times=1):
    """In a child: its whole group receives the signal once, where the run stands then."""
    owner, attribute = {
        "step": (BaseTrainer, "train_step"),
        "evaluation": (BaseTrainer, "evaluate"),
        "saving": (checkpoint, "_seal"),
    }[place]
    original, calls = getattr(owner, attribute), 0

    def sending(*arguments):
        nonlocal calls
        calls += 1
        if calls == 2:
            for _ in range(times):
                os.killpg(os.getpid(), number)
        return original(*arguments)

    setattr(owner, attribute, sending)


def group_of(leader):
    """Processes of a group that still live."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(entry.name)
    return found


def no_orphans(leader):
    deadline = time.monotonic() + 5
    while group_of(leader):
        assert time.monotonic() < deadline, f"processes {group_of(leader)} outlive the run by 5 s"
        time.sleep(0.05)


@row(
    3,
    "SIGINT, SIGTERM, SIGUSR1, SIGHUP to all processes of a run, in a step, an evaluation, a save; a second one",
    "exit codes 130, 143, 75, 129; no process is left after 5 s; the resumed run ends as an uninterrupted one did",
)
def signals(trials):
    whole = trials.new_folder() / "whole"
    runs.well(runs.train("ds2", whole, *SHORT))
    cases = [(number, place, n, 1) for number in CODES for place in PLACES for n in (0, 1)]
    cases += [(number, place, 0, 2) for number in (signal.SIGINT, signal.SIGTERM) for place in PLACES]
    for number, place, workers, times in cases if trials.whole else cases[9:10]:
        with trials.trial(f"{times} {number.name} in {place}, {workers} workers") as folder:
            run = folder / "run"
            sending = functools.partial(signalled, place, number, times)
            child = runs.start("ds2", run, *SHORT, f"data.train.workers={workers}", before=sending)
            ended = child.end(60)
            expected = CODES[number] if times == 1 else -number  # the second one ends at once
            assert ended.code == expected, f"exit code {ended.code}: {ended.said[-500:]}"
            assert "Traceback" not in ended.said
            no_orphans(child.pid)
            for path in checkpoint.numbered(run):
                checkpoint.load(path, needs=checkpoint.RUN_PARTS)
            runs.well(runs.train("ds2", run, *SHORT, resume=True))
            runs.equal(run, whole)

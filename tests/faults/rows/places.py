"""Where a run finds itself: beside another one, under odd names, with a clock that runs backwards, without locks."""

import errno
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import time

from hw_base.training.trainer import BaseTrainer
from tests.conftest import ROOT
from tests.faults import runs
from tests.faults.rows.kills import SHORT
from tests.faults.table import row

NAMES = ["a b", "папка ё", 'it\'s "q"', "x" * 200, "%s {0}", "$HOME", "a\tb", "*", "[a]", "a;b&c", "~", "#x", "日本"]


def stopped_at(step):
    """In a child: it stops there until somebody lets it continue."""
    train_step = BaseTrainer.train_step

    def stopping(self, batch):
        if self.step + 1 == step:
            os.kill(os.getpid(), signal.SIGSTOP)
        train_step(self, batch)

    BaseTrainer.train_step = stopping


def clock_backwards():
    """In a child: every look at the clock is an hour earlier."""
    now = itertools.count(int(time.time()), -3600)
    time.time = lambda: float(next(now))
    time.time_ns = lambda: next(now) * 10**9


def no_locks():
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    fcntl.flock = refuse


def beside_another(trials, whole):
    with trials.trial("a second run in the folder of a first one") as folder:
        run = folder / "run"
        first = runs.start("ds2", run, *SHORT, before=lambda: stopped_at(3))
        deadline = time.monotonic() + 60
        while os.waitid(os.P_PID, first.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for resume in (False, True):
            second = runs.train("ds2", run, *SHORT, resume=resume, said=folder / f"second {resume}")
            assert second.code == 2
            assert "another process is training in this folder" in second.said
            assert "Traceback" not in second.said
        first.send(signal.SIGCONT)
        runs.well(first.end())
        runs.equal(run, whole)


def locale_c(trials, whole):
    for variables in ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}):
        with trials.trial(f"{variables}") as folder:
            run = folder / "папка"
            command = [sys.executable, "train.py", *runs.arguments("ds2", run, *SHORT)]
            environment = {**os.environ, **variables, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True)
            assert done.returncode == 0, done.stderr[-500:]
            assert b"Traceback" not in done.stderr
            runs.equal(run, whole)


@row(
    14,
    "another run in the folder, names with spaces, Cyrillic and quotes, clocks that run backwards, locale C, a home "
    "that takes no files, a file system without locks",
    "refused in one line, or trained as anywhere else, to the bit",
)
def places(trials):
    whole = trials.new_folder() / "whole"
    runs.well(runs.train("ds2", whole, *SHORT))
    beside_another(trials, whole)
    for name in NAMES if trials.whole else NAMES[1:2]:
        with trials.trial(f"a folder called {name!r}") as folder:
            runs.well(runs.train("ds2", folder / name, *SHORT, said=folder / "said"))
            runs.equal(folder / name, whole)
    if not trials.whole:
        return
    for before in (clock_backwards, no_locks):
        with trials.trial(before.__name__) as folder:
            runs.well(runs.train("ds2", folder / "run", *SHORT, before=before))
            runs.equal(folder / "run", whole)
    for home in ("/proc/nowhere", "/dev/null"):
        with trials.trial(f"HOME={home}") as folder:

            def moved(home=home):
                os.environ["HOME"] = home
                os.environ.pop("XDG_CACHE_HOME", None)

            ended = runs.train("ds2", folder / "run", *SHORT, before=moved)
            assert ended.code == 2
            assert "Traceback" not in ended.said
            assert "set cache_dir" in ended.said or "XDG_CACHE_HOME" in ended.said, ended.said[-500:]
    locale_c(trials, whole)

"""SIGKILL at any moment: at each call by which a run changes its folder, before, within and after it, and at random."""

import contextlib
import os
import random
import re
import signal
import time

from hw_base import checkpoint, storage
from hw_base.writers import read_rows
from tests.faults import runs
from tests.faults.table import row

CALLS = ("replace", "link", "fsync", "unlink", "write", "ftruncate", "mkdir", "open")
SAVE_EVERY = 2
SHORT = ["trainer.max_steps=5", "trainer.log_every=1", "trainer.eval_every=2", f"trainer.save_every={SAVE_EVERY}"]
SHORT += ["trainer.preflight=false", "trainer.examples=1", "trainer.keep_best=1", "data.val.limit=1"]
# Four tasks; the weights averaged and gradients accumulated in two of them.
RUNS = {
    "ds2": [],
    "ds2, averaged and accumulated": ["trainer.ema_decay=0.9", "trainer.accumulate=2", "trainer.max_steps=6"],
    "fastspeech2": ["trainer.ema_decay=0.9", "metrics={}"],
    "hifigan": ["metrics={}"],
    "vits2": ["metrics={}", "trainer.accumulate=2", "trainer.max_steps=6"],
}


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def watched(folder, each):
    """In a child: `each` is called with the number, the name and the arguments of every call that concerns the folder.

    It returns whether to die before the call, within it (a half-written line) or after it; None goes on.
    """
    number = 0
    inside = str(folder)

    def concerns(argument):
        if isinstance(argument, int):
            with contextlib.suppress(OSError):
                argument = os.readlink(f"/proc/self/fd/{argument}")
        return str(argument).startswith(inside)

    def wrap(name):
        original = getattr(os, name)

        def wrapped(*arguments, **options):
            nonlocal number
            if not concerns(arguments[0]):
                return original(*arguments, **options)
            number += 1
            when = each(number, name)
            if when == "before":
                die()
            if when == "within":
                if name == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                die()
            try:
                return original(*arguments, **options)
            finally:
                if when == "after":
                    die()

        setattr(os, name, wrapped)

    for name in CALLS:
        wrap(name)


def counting(folder, found):
    """In a child: write down the names of all calls, at once, because the run may be killed."""
    file = open(found, "a", buffering=1)  # noqa: SIM115

    def each(number, name):
        file.write(f"{name}\n")

    watched(folder, each)


def dying(folder, number, when):
    """In a child: die at this call."""
    watched(folder, lambda now, _: when if now == number else None)


def moments(calls, count, chosen):
    """Every kind of call first, then any, so many in all: (number of the call, when)."""
    every = [(number, when) for number, name in enumerate(calls, 1) for when in ("before", "within", "after")]
    every = [(n, when) for n, when in every if when != "within" or calls[n - 1] == "write"]
    kinds = {(calls[n - 1], when): (n, when) for n, when in chosen.sample(every, len(every))}
    first = list(kinds.values())
    rest = [moment for moment in chosen.sample(every, len(every)) if moment not in first]
    return (first + rest)[:count]


def nothing_lost(run, whole, sets, config):
    """Of a run that was killed: what lies there is sound, and the resumed run ends as the uninterrupted one did."""
    for path in checkpoint.numbered(run):
        checkpoint.load(path, needs=checkpoint.RUN_PARTS)
    if (run / checkpoint.BEST).exists():
        checkpoint.load(run / checkpoint.BEST, needs=checkpoint.RUN_PARTS)
    seen = 0
    if (run / "metrics.jsonl").exists():
        seen = max((one["step"] for one in read_rows(run / "metrics.jsonl")), default=0)
    # What a worker of the killed process says of its end is not what the resumed one says.
    ended = runs.train(config, run, *sets, resume=True, said=run.with_name("resumed.said"))
    runs.well(ended)
    resumed = re.search(r"resumed from .*, step (\d+)", ended.said)
    assert seen - (int(resumed[1]) if resumed else 0) <= SAVE_EVERY, f"step {seen} was done, {ended.said[-300:]}"
    runs.equal(run, whole)
    left = [path.name for path in run.rglob("*") if path.name.endswith(storage.TEMPORARY)]
    assert not left, left
    assert sorted(p.name for p in run.glob("*.pth")) == sorted(p.name for p in whole.glob("*.pth"))


def killed(trials, name, sets, count):
    config = name.partition(",")[0]
    sets = [*SHORT, *sets]
    place = trials.new_folder()
    whole = place / "whole"
    started = time.monotonic()
    runs.well(runs.train(config, whole, *sets, before=lambda: counting(whole, place / "calls")))
    length = time.monotonic() - started
    calls = (place / "calls").read_text().split()
    chosen = random.Random(name)
    for number, when in moments(calls, count * 3 // 4, chosen):
        with trials.trial(f"{name}: {when} call {number}, {calls[number - 1]}") as folder:
            run = folder / "run"
            ended = runs.train(config, run, *sets, before=lambda: dying(run, number, when))  # noqa: B023
            assert ended.code == -signal.SIGKILL, f"exit code {ended.code}: {ended.said[-300:]}"
            nothing_lost(run, whole, sets, config)
    for _ in range(count - count * 3 // 4):
        delay = chosen.uniform(0.1, 1.0) * length
        with trials.trial(f"{name}: after {delay:.2f} s, with a worker") as folder:
            run = folder / "run"
            with_worker = [*sets, "data.train.workers=1"]
            child = runs.start(config, run, *with_worker)
            time.sleep(delay)
            child.send(signal.SIGKILL)  # to the main process alone: its worker lives on for a while
            ended = child.end()
            assert ended.code in (-signal.SIGKILL, 0)
            # With another config, the checkpoint that a run resumes from is kept besides.
            nothing_lost(run, whole, with_worker, config)


@row(
    1,
    "SIGKILL at 200 moments: before, within and after each kind of call that changes the folder, and at random; "
    "recognition, FastSpeech2, VITS2, HiFi-GAN; averaged, accumulated",
    "every checkpoint loads, `-r auto` resumes at once, at most one save period is trained again; weights, moments, "
    "rows and best checkpoint are those of an uninterrupted run, to the bit; no temporary file is left",
)
def kills(trials):
    names = list(RUNS) if trials.whole else ["ds2"]
    for name in names:
        killed(trials, name, RUNS[name], trials.size(2, 40))

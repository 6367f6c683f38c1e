"""Trackers that raise, hang or stop, beside a record that must stay complete."""

import itertools
import random
import threading
import time

import torch

from hw_base.writers import JsonlWriter, MultiWriter, read_rows
from tests.faults.table import row
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make
from tests.hw_base.writers.test_multi import Remembering

STEPS = 1000
PATIENCE_SECONDS = 0.2


class Tracker(Remembering):
    """Does harm at some of its calls."""

    def __init__(self, harm, when):
        super().__init__()
        self.harm, self.when, self.number = harm, when, 0

    def _take(self, *call):
        self.number += 1
        if self.when(self.number):
            self.harm()

    def state_dict(self):
        self._take()
        return {}

    def close(self):
        self._take()


def raises():
    raise RuntimeError("the service is down")


def is_cut_off():
    raise ConnectionResetError("closed")


def exits():
    raise SystemExit(3)


def interrupts():
    raise KeyboardInterrupt


def hangs():
    threading.Event().wait(20)


HARMS = (raises, is_cut_off, exits, interrupts, hangs)
WHEN = {
    "always": lambda call: True,
    "first": lambda call: call == 1,
    "later": lambda call: call > 100,
    "at the end": lambda call: call > STEPS,
    "now and then": lambda call: random.Random(call).random() < 0.3,
}


@row(
    15,
    "trackers that raise, are cut off, exit, interrupt or hang: always, first, later, at the end, now and then",
    "training goes on, 1000 of 1000 rows are recorded, the end comes in time; the run is uploaded afterwards",
)
def trackers(trials):
    cases = list(itertools.product(HARMS, WHEN))
    for harm, name in cases if trials.whole else cases[2::10]:
        with trials.trial(f"{harm.__name__} {name}") as folder:
            record = JsonlWriter(folder / "metrics.jsonl")
            bad = Tracker(harm, WHEN[name])
            writers = MultiWriter([bad, record], seconds=PATIENCE_SECONDS, close_seconds=PATIENCE_SECONDS)
            torch.manual_seed(0)
            section = {"type": "AdamW", "args": {"lr": 0.01}}
            options = {"max_steps": STEPS, "log_every": 1, "eval_every": STEPS, "save_every": STEPS}
            run = make(RegressorTrainer, Regressor(), batches(4), section, {}, writers=writers, **options)
            run.train()
            started = time.monotonic()
            writers.close()
            assert time.monotonic() - started < 5
            steps = [one["step"] for one in read_rows(folder / "metrics.jsonl") if one["split"] == "train"]
            assert steps == list(range(1, STEPS + 1))
    trials.tests("tests/hw_base/test_upload.py", "tests/hw_base/writers/test_multi.py")

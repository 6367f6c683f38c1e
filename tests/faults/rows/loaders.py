"""Processes that read batches and die, crash, hang, run out of memory or raise."""

import gc
import itertools
import re
import time

from hw_base.errors import DataError
from tests.faults.table import row
from tests.hw_base.data import test_reading as known

HARMS = {
    known.killed: "was killed",
    known.crashed: "a library crashed",
    known.left: "exit code 7",
    known.hung: "has hung",
    known.hung_in_c: "has hung",
    known.out_of_memory: "MemoryError: no more",
    known.mistaken: "KeyError: 'missing'",
}


@row(
    7,
    "a worker that is killed, crashes, leaves, hangs in Python or in C, runs out of memory, raises; while reading or "
    "making a batch",
    "one line with the utterance and the cause, within the time-out; what was trained before is saved",
)
def workers(trials):
    cases = list(itertools.product(HARMS, (1, 2, 3), (1, 2)))
    for harm, count, timeout in cases if trials.whole else cases[::9]:
        with trials.trial(f"{harm.__name__}, {count} workers, time-out {timeout} s"):
            started = time.monotonic()
            try:
                list(known.loader(harm, workers=count, timeout=timeout if "hung" in harm.__name__ else 60))
                raise AssertionError("all batches came")
            except DataError as error:
                line = str(error)
            assert re.match(r"train: .*utterance 'bad'", line), line
            assert HARMS[harm] in line, line
            assert "\n" not in line
            assert time.monotonic() - started < 30
        gc.collect()  # else the next workers inherit this loader, and print that its processes are not theirs
    trials.tests("tests/hw_base/data/test_reading.py", only="collate or busy or interrupted")
    trials.tests("tests/hw_asr/test_bad_input.py", only="trained_before_a_bad_utterance")

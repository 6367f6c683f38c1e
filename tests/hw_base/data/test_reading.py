"""Workers that die, hang or raise: one line with the utterance, within the time-out, and nothing is lost."""

import ctypes
import multiprocessing
import os
import re
import signal
import sys
import time

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from hw_base.data.collate import PadCollate
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.loader import build_loader
from hw_base.data.split import Split
from hw_base.errors import DataError


class Corpus(BaseDataset):
    """Short waveforms; reading the utterance ``bad`` does `harm`."""

    def __init__(self, harm, n=8):
        names = [f"u{i}" for i in range(n - 1)] + ["bad"]
        super().__init__([Record(name, f"{name}.wav", 1.0 + i / 10) for i, name in enumerate(names)])
        self.harm = harm

    def read(self, record):
        if record.utterance_id == "bad":
            self.harm()
        return torch.rand(int(100 * record.duration)), 100


class Item:
    def __call__(self, record, waveform, generator):
        return {"utterance_id": record.utterance_id, "waveform": waveform}


def loader(harm=int, collate=None, **arguments):
    split = Split("train", [Corpus(harm)], Item(), 100, on_bad_data="skip", evaluation=True)
    return build_loader(split, 2, collate or PadCollate(), **arguments)


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def crashed():
    ctypes.string_at(0)


def left():
    os._exit(7)


def hung():
    time.sleep(60)


def hung_in_c():
    # Uninterruptible by handlers written in Python, as a decoder in an endless loop is.
    ctypes.PyDLL(None).sleep(60)


def out_of_memory():
    raise MemoryError("no more")


def mistaken():
    return {}["missing"]


@pytest.mark.parametrize(
    ("harm", "cause"),
    [
        (killed, "it was killed, as the system does when memory runs out"),
        (crashed, "a library crashed"),
        (left, "it ended with exit code 7"),
    ],
)
def test_a_dead_worker_is_one_line_with_the_utterance_it_read(harm, cause):
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        list(loader(harm, workers=2, timeout=100))
    assert re.fullmatch(
        rf"train: worker \d died while it read utterance 'bad' \({cause}\); .*data\.train\.workers\)", str(caught.value)
    )
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("harm", [hung, hung_in_c])
def test_a_hanging_worker_is_named_and_ended(harm):
    batches = loader(harm, workers=2, timeout=1)
    with pytest.raises(DataError, match=r"^train: no batch within \d+ s: worker \d has hung .* utterance 'bad'.*slow$"):
        list(batches)
    deadline = time.monotonic() + 20
    while sum(process.is_alive() for process in batches._processes()) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("harm", "words"), [(out_of_memory, "MemoryError: no more"), (mistaken, "KeyError: 'missing'")]
)
def test_whatever_a_worker_raises_is_one_line_with_the_utterance(harm, words, workers):
    with pytest.raises(DataError) as caught:
        list(loader(harm, workers=workers))
    place = rf"\(.*test_reading\.py, line \d+, in {harm.__name__}\)"
    assert re.fullmatch(rf"train: utterance 'bad': {words} {place}", str(caught.value))


class BadCollate:
    def __call__(self, items):
        if any(item["utterance_id"] == "bad" for item in items):
            raise ValueError("these do not\nstack")
        return PadCollate()(items)


class KillingCollate:
    def __call__(self, items):
        if any(item["utterance_id"] == "bad" for item in items):
            killed()
        return PadCollate()(items)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_collate_function_names_the_batch(workers):
    with pytest.raises(DataError, match=r"^train: the batch of utterances 'bad', 'u6': ValueError: these do not stack"):
        list(loader(collate=BadCollate(), workers=workers))


def test_a_worker_that_dies_in_a_collate_function_names_the_batch():
    with pytest.raises(DataError, match=r"worker 0 died while it made a batch of utterances 'bad', 'u6' \(it was"):
        list(loader(collate=KillingCollate(), workers=1))


def test_a_worker_that_dies_while_the_main_process_is_busy_interrupts_nothing():
    """The death is told when the next batch is asked for, never within an update or the writing of a checkpoint."""
    batches = loader(workers=1)
    iterator = iter(batches)
    next(iterator)
    process = batches._processes()[0]
    os.kill(process.pid, signal.SIGKILL)
    multiprocessing.connection.wait([process.sentinel], timeout=20)
    torch.rand(10).sum()
    with pytest.raises(DataError, match=r"worker 0 died .*\(it was killed"):
        list(iterator)


def crash_within(code, meet, timeout):
    """Read batches whose worker 0 crashes as soon as `meet(crash)`, at the first call of `code`, calls `crash()`.

    `crash` waits until the worker is dead, and leaves its exit code to PyTorch's handler.
    """
    crashing = multiprocessing.get_context("fork").Event()
    met = []

    def harm():
        crashing.wait(20)
        crashed()

    def crash():
        crashing.set()
        met.append(os.waitid(os.P_PID, batches._processes()[0].pid, os.WEXITED | os.WNOWAIT))

    def hook(frame, event, _):
        if event == "call" and frame.f_code is code and not crashing.is_set():
            meet(crash)

    batches = loader(harm, workers=2, timeout=timeout, start_method="fork")
    sys.setprofile(hook)
    try:
        with pytest.raises(DataError, match=r"worker 0 died while it read utterance 'bad' \(a library crashed\)"):
            list(batches)
    finally:
        sys.setprofile(None)
    assert met


def test_a_worker_that_dies_while_another_object_ends_is_noticed_at_once():
    """What is raised within `__del__` is printed and lost; garbage is collected at any time, other loaders too."""

    class Garbage:
        def __init__(self, end):
            self._end = end

        def __del__(self):
            self._end()

    started = time.monotonic()
    crash_within(_MultiProcessingDataLoaderIter._try_get_data.__code__, Garbage, timeout=60)
    assert time.monotonic() - started < 40


def test_a_worker_that_dies_while_a_tensor_of_another_is_opened_leaves_no_half_object():
    """Raised within `StorageWeakRef.__init__`, where the signal comes, its `__del__` would fail and say so."""
    crash_within(StorageWeakRef.__init__.__code__, lambda crash: crash(), timeout=30)


def test_an_interrupted_epoch_of_slow_workers_is_taken_up_again():
    batches = loader(workers=2)
    for _ in zip(range(2), batches):  # noqa: B905
        pass
    assert len(list(batches)) == 4

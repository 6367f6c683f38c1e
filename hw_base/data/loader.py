"""Batches of similar duration, the same ones for any number of workers and processes, from any place in an epoch."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset

from hw_base.data.collate import good_items
from hw_base.data.sampler import BucketBatchSampler, Key
from hw_base.data.split import Item, Split
from hw_base.errors import DataError, HwError

Batch = dict[str, Any]

# A scheduler that stops a job signals the whole process group: workers outlive the signal by this many seconds, so that
# the main process can finish its step and save.
_GRACE_SECONDS = 10


class Loader:
    """Batches of a split, epoch after epoch.

    ``for batch in loader`` goes from `position` to the end of the epoch. In training the position moves on with every
    batch that is handed out, and to the next epoch's start at its end: it is what a checkpoint stores, and
    `set_position` brings it back. Evaluation always begins at the start.

    What workers skipped is counted in ``split.skipped``; a `DataError` from a worker arrives as one, without its
    process's traceback. An evaluation batch of which nothing is left is not handed out.

    Attributes:
        split (Split): what is read.
        sampler (BucketBatchSampler): the order.
        position (tuple[int, int]): epoch, and batch in it, of the next batch.
    """

    def __init__(self, split: Split, sampler: BucketBatchSampler, batches: "DataLoader[Any]") -> None:
        self.split = split
        self.sampler = sampler
        self.position = (0, 0)
        self._batches = batches

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.sampler)

    def set_position(self, epoch: int, batch_index: int = 0) -> None:
        """Go on with this batch; a ``batch_index`` of ``len(loader)`` means the next epoch's start."""
        assert 0 <= batch_index <= len(self)
        self.position = (epoch + 1, 0) if batch_index == len(self) else (epoch, batch_index)

    def __iter__(self) -> Iterator[Batch]:
        if self.split.evaluation:
            self.position = (0, 0)
        self.sampler.set_position(*self.position)
        for batch in self._received():
            self.set_position(self.position[0], self.position[1] + 1)
            if isinstance(batch, HwError):
                raise batch
            self.split.note_skipped(batch.pop("skipped"))
            if batch:
                yield batch

    def _received(self) -> Iterator[Any]:
        started = time.monotonic()
        try:
            for batch in self._batches:
                yield batch
                started = time.monotonic()
        except RuntimeError as error:
            if "timed out" not in str(error):
                raise
            waited = time.monotonic() - started
            message = f"{self.split.name}: no batch within {waited:.0f} s: a worker hangs, or the disk is too slow"
            raise DataError(message) from error


def build_loader(
    split: Split,
    batch_size: int,
    collate_fn: Callable[[Sequence[Item]], Batch],
    *,
    workers: int = 0,
    max_batch_seconds: float | None = None,
    jitter: float = 0.015,
    seed: int | None = None,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool | None = None,
    start_method: Literal["fork", "spawn", "forkserver"] | None = None,
    timeout: float = 300.0,
) -> Loader:
    """A loader for one split: shuffled buckets for training, the longest first for evaluation.

    Args:
        split: what is read.
        batch_size: utterances in a batch, over all processes.
        collate_fn: items, never empty and without ``"skipped"``, to a batch; must be picklable for ``spawn``.
        workers: processes that read; 0 reads in this one. The batches are the same.
        max_batch_seconds: see `BucketBatchSampler`, as for the next four.
        jitter: of the order.
        seed: of the order; the split's by default.
        drop_last: leave out the incomplete last batch.
        rank: of this process.
        world_size: how many processes share each batch.
        pin_memory: None pins where there is CUDA.
        start_method: of the workers; None is the platform's own.
        timeout: seconds to wait for a batch from the workers.
    """
    sampler = BucketBatchSampler(
        split.durations,
        batch_size,
        max_batch_seconds,
        jitter=jitter,
        seed=split.seed if seed is None else seed,
        shuffle=not split.evaluation,
        drop_last=drop_last,
        rank=rank,
        world_size=world_size,
        name=split.name,
    )
    batches: DataLoader[Any] = DataLoader(
        _ErrorsAsItems(split),
        batch_sampler=sampler,
        collate_fn=_CollateGood(collate_fn),
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=start_method if workers > 0 else None,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        worker_init_fn=_init_worker,
        timeout=timeout if workers > 0 else 0.0,
        # Its own: an iterator draws a seed, and that must not change the global random state.
        generator=torch.Generator().manual_seed(0),
    )
    return Loader(split, sampler, batches)


class _ErrorsAsItems(Dataset[Any]):
    """Errors for the user travel as items, because DataLoader wraps what is raised in a worker's traceback."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, key: Key) -> Item | HwError:
        try:
            return self.split[key]
        except HwError as error:
            # Rebuilt, because an error with arguments of its own cannot always be unpickled.
            return DataError(str(error))


class _CollateGood:
    """Keep skipped items and errors away from a task's collate function."""

    def __init__(self, collate_fn: Callable[[Sequence[Item]], Batch]) -> None:
        self.collate_fn = collate_fn

    def __call__(self, items: Sequence[Item | HwError]) -> Batch | HwError:
        for item in items:
            if isinstance(item, HwError):
                return item
        kept, skipped = good_items([item for item in items if not isinstance(item, HwError)])
        batch = dict(self.collate_fn(kept)) if kept else {}
        batch["skipped"] = skipped
        return batch


def _init_worker(_: int) -> None:
    torch.set_num_threads(1)
    # Signals to the whole group are the main process's to handle; it ends the workers itself.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS))

"""Batches of similar duration, the same ones for any number of workers and processes, from any place in an epoch."""

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader

from hw_base.data import reading
from hw_base.data.collate import good_items
from hw_base.data.sampler import BucketBatchSampler
from hw_base.data.split import Item, Split
from hw_base.errors import DataError, HwError

log = logging.getLogger(__name__)

Batch = dict[str, Any]

_DEATH_CHECKS = 100


class Loader:
    """Batches of a split, epoch after epoch.

    ``for batch in loader`` goes from `position` to the end of the epoch. In training the position moves on with every
    batch that is handed out, and to the next epoch's start at its end: it is what a checkpoint stores, and
    `set_position` brings it back. Evaluation always begins at the start.

    What workers skipped is counted in ``split.skipped``. Whatever a worker raises arrives as one `DataError` that
    names the utterance, and so does a worker that was killed, crashed, or hangs beyond the time-out.
    An evaluation batch of which nothing is left is not handed out.

    Attributes:
        split (Split): what is read.
        sampler (BucketBatchSampler): the order.
        position (tuple[int, int]): epoch, and batch in it, of the next batch.
    """

    def __init__(
        self, split: Split, sampler: BucketBatchSampler, batches: "DataLoader[Any]", activity: reading.Activity
    ) -> None:
        self.split = split
        self.sampler = sampler
        self.position = (0, 0)
        self._batches = batches
        self._activity = activity

    def __len__(self) -> int:
        """Batches of a whole epoch."""
        return len(self.sampler)

    @property
    def workers(self) -> int:
        """Processes that read; 0 if it is this one."""
        return len(self._activity)

    def set_position(self, epoch: int, batch_index: int = 0) -> None:
        """Continue with this batch; a ``batch_index`` of ``len(loader)`` means the next epoch's start."""
        assert 0 <= batch_index <= len(self)
        self.position = (epoch + 1, 0) if batch_index == len(self) else (epoch, batch_index)

    def sample(self, n: int) -> Batch:
        """A batch of utterances spread over the split, read in this process; the position stays.

        Raises:
            DataError: one of them cannot be read, and the split does not skip it.
        """
        places = range(0, len(self.split), max(1, len(self.split) // n))[:n]
        reader: Any = self._batches.dataset
        kept, _ = good_items([self.split[i] for i in places])
        return dict(reader.collate_fn(kept))

    def here(self, n: int) -> Iterator[Batch]:
        """The first batches of the first epoch, read in this process; the position stays.

        Raises:
            HwError: one cannot be made.
        """
        reader: Any = self._batches.dataset
        self.sampler.set_position(0, 0)
        for keys in itertools.islice(iter(self.sampler), n):
            batch = reader.__getitems__(keys)
            if isinstance(batch, HwError):
                raise batch
            batch.pop("skipped")
            if batch:
                yield batch

    def __iter__(self) -> Iterator[Batch]:
        if self.split.evaluation:
            self.position = (0, 0)
        self.sampler.set_position(*self.position)
        for batch in self._received():
            self.set_position(self.position[0], self.position[1] + 1)
            if isinstance(batch, HwError):
                if isinstance(batch, reading.WorkerError):
                    log.debug("%s", batch.details)
                raise batch
            self.split.note_skipped(batch.pop("skipped"))
            if batch:
                yield batch

    def _received(self) -> Iterator[Any]:
        batches = self._in_time(lambda: iter(self._batches))
        while True:
            try:
                batch = self._in_time(lambda: next(batches))
            except StopIteration:
                return
            yield batch

    def _in_time(self, work: Callable[[], Any]) -> Any:
        """What the workers give, or a DataError that says which of them died or hangs, and at what."""
        started = time.monotonic()
        try:
            with reading.DEATH_WATCH.waiting():
                self._refuse_dead_workers()
                return work()
        except (RuntimeError, ConnectionError, EOFError) as error:
            if not isinstance(error, RuntimeError):  # a worker died while it sent a batch
                self._await_a_death()
            waited = time.monotonic() - started if "timed out" in str(error) else 0.0
            message = reading.describe_failure(self._processes(), self._activity, self.split, waited)
            if message is None and "DataLoader worker" in str(error):
                message = reading.describe_early_death(self._activity, self.split, str(error).strip(". "))
            if message is None:
                raise
            raise DataError(message) from error
        finally:
            reading.DEATH_WATCH.install()

    def _refuse_dead_workers(self) -> None:
        """One that died while the main process was busy elsewhere."""
        if any(not process.is_alive() for process in self._processes()):
            raise RuntimeError("a worker has died")

    def _await_a_death(self) -> None:
        """A dying process closes its files a moment before it counts as dead."""
        for _ in range(_DEATH_CHECKS):
            if any(not process.is_alive() for process in self._processes()):
                return
            time.sleep(0.05)

    def _processes(self) -> list[Any]:
        # PyTorch has no public name for them.
        return list(getattr(getattr(self._batches, "_iterator", None), "_workers", ()))


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
    activity = reading.Activity(workers, max(sampler.sizes))
    batches: DataLoader[Any] = DataLoader(
        reading.BatchReader(split, collate_fn, activity),
        batch_sampler=sampler,
        collate_fn=reading.as_is,
        num_workers=workers,
        persistent_workers=workers > 0,
        multiprocessing_context=start_method if workers > 0 else None,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        worker_init_fn=reading.start_worker,
        timeout=timeout if workers > 0 else 0.0,
        # Its own: an iterator draws a seed, and that must not change the global random state.
        generator=torch.Generator().manual_seed(0),
    )
    return Loader(split, sampler, batches, activity)

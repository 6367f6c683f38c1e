"""Batches of similar duration, the same ones for any number of workers and processes, from any place in an epoch."""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hw_base.collate import good_items
from hw_base.dataset import Item, Split, item_generator
from hw_base.errors import DataError, HwError

Key = tuple[int, int]
Batch = dict[str, Any]

# A scheduler that stops a job signals the whole process group: workers outlive the signal by this many seconds, so that
# the main process can finish its step and save.
_GRACE_SECONDS = 10


class BucketBatchSampler(Sampler[list[Key]]):
    """Batches of utterances of similar duration, as lists of ``(epoch, index)``.

    Training: in each epoch every duration is multiplied by a random number in ``1 +- jitter``, the utterances are
    ordered by the result, cut into batches, and the batches are shuffled. So a batch holds neighbours in duration, yet
    other ones in each epoch. The batches' sizes are the same in all epochs, and so is their number.
    Evaluation: no randomness, the longest first.

    A batch is the same whatever ``world_size``; a process takes every ``world_size``-th utterance of it. In training
    all processes get the same number of batches, none of them empty. In evaluation each utterance comes exactly once
    over all processes, and a process has a batch less where its share would be empty.

    Args:
        durations: seconds, one per utterance.
        batch_size: utterances in a batch, over all processes.
        max_batch_seconds: upper bound of batch size times longest duration, over all processes; a single utterance
            that is longer still makes a batch. None sets no bound.
        jitter: how far the order may deviate from the durations, as a fraction; the padding grows by about as much.
        seed: of the order.
        shuffle: True for training.
        drop_last: leave out, in each epoch at random, as many utterances as an incomplete last batch would hold.
        rank: of this process.
        world_size: how many processes share each batch.
        name: of the split, for messages.

    Attributes:
        sizes (list[int]): of the batches over all processes, before they are shuffled.
        n_dropped (int): utterances left out of an epoch.

    Raises:
        DataError: there is not a single batch, or training batches are too small for ``world_size``.
    """

    def __init__(
        self,
        durations: Sequence[float],
        batch_size: int,
        max_batch_seconds: float | None = None,
        jitter: float = 0.015,
        seed: int = 0,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        name: str = "split",
    ) -> None:
        assert 0 <= rank < world_size
        self.durations = torch.tensor(durations, dtype=torch.float64)
        self.batch_size, self.max_batch_seconds = batch_size, max_batch_seconds
        self.jitter = jitter if shuffle else 0.0
        self.seed, self.shuffle, self.name = seed, shuffle, name
        self.rank, self.world_size = rank, world_size
        self.sizes, self.n_dropped = self._plan(drop_last)
        self._epoch, self._start = 0, 0

    def __len__(self) -> int:
        """Batches of a whole epoch, on this process."""
        return sum(size > self.rank for size in self.sizes)

    def __iter__(self) -> Iterator[list[Key]]:
        shares = [batch[self.rank :: self.world_size] for batch in self.batches(self._epoch)]
        for share in [share for share in shares if share][self._start :]:
            yield [(self._epoch, index) for index in share]

    def set_position(self, epoch: int, batch_index: int = 0) -> None:
        """Make the next iteration begin at this batch of this epoch; nothing is read to get there."""
        self._epoch, self._start = epoch, batch_index

    def batches(self, epoch: int) -> list[list[int]]:
        """The indices of all batches of an epoch, over all processes, in order."""
        generator = item_generator(self.seed, epoch, -1)
        n = len(self.durations)
        order = torch.arange(n)
        key = self.durations
        if self.shuffle:
            # Removed before they are ordered: cut off at the end, it would be the shortest utterances in every epoch.
            order = torch.randperm(n, generator=generator)[: n - self.n_dropped].sort().values
            noise = torch.rand(len(order), generator=generator, dtype=torch.float64) * 2.0 - 1.0
            key = key[order] * (1.0 + self.jitter * noise)
        order = order[torch.argsort(key, descending=True, stable=True)]
        batches = [batch.tolist() for batch in torch.split(order, self.sizes)]
        if self.shuffle:
            batches = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
        return batches

    def padding(self, epoch: int = 0) -> float:
        """Share of an epoch's padded duration that is padding, with each batch padded as a whole."""
        batches = [self.durations[batch] for batch in self.batches(epoch)]
        padded = sum(float(batch.max()) * len(batch) for batch in batches)
        return 1.0 - sum(float(batch.sum()) for batch in batches) / padded if padded else 0.0

    def report(self) -> str:
        """Number of batches and padding, and what is left out, for people."""
        line = f"{self.name}: {len(self.sizes)} batches an epoch, {100 * self.padding():.1f} % padding"
        return line + (f"; {self.n_dropped} utterances left out of each epoch" if self.n_dropped else "")

    def _plan(self, drop_last: bool) -> tuple[list[int], int]:
        """Sizes of the batches, the longest utterances first, and how many utterances stay out of an epoch."""
        longest = self.durations.sort(descending=True).values.tolist()
        sizes: list[int] = []
        position = 0
        while position < len(longest):
            size = self._size(longest[position])
            if self.shuffle and size < self.world_size:
                raise DataError(
                    f"{self.name}: a batch holds {size} utterance(s) of {longest[position]:.1f} s, fewer than the "
                    f"{self.world_size} processes that share it; raise batch_size or max_batch_seconds"
                )
            sizes.append(min(size, len(longest) - position))
            position += size
        last_is_short = position > len(longest)
        dropped = 0
        if self.shuffle and sizes and ((drop_last and last_is_short) or sizes[-1] < self.world_size):
            dropped = sizes.pop()
        if not sizes:
            raise DataError(f"{self.name}: {len(longest)} utterances are too few for one batch of {self.batch_size}")
        return sizes, dropped

    def _size(self, longest: float) -> int:
        """How many utterances fit where the p-th longest has this duration."""
        if self.max_batch_seconds is None or longest <= 0.0:
            return self.batch_size
        # The p-th largest of the jittered durations is at most (1 + jitter) times the p-th largest duration, and what
        # is jittered to that may itself be 1 / (1 - jitter) times longer.
        bound = longest if not self.jitter else longest * (1.0 + self.jitter) / (1.0 - self.jitter)
        return max(min(self.batch_size, math.floor(self.max_batch_seconds / bound + 1e-9)), 1)


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
    # Ctrl-C is the main process's to handle; it ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS))

"""Which utterances make a batch, and in what order."""

import math
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

from hw_base.data.split import item_generator
from hw_base.errors import DataError

Key = tuple[int, int]


class BucketBatchSampler(Sampler[list[Key]]):
    """Batches of utterances of similar duration, as lists of ``(epoch, index)``.

    Training: in each epoch every duration is multiplied by a random number in ``1 +- jitter``, the utterances are
    ordered by the result, cut into batches, and the batches are shuffled. So a batch holds neighbors in duration, yet
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

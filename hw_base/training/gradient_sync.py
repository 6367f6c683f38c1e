"""Gradients averaged over processes while the backward pass still runs."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hw_base import distributed

BUCKET_BYTES = 25 * 2**20


class _Bucket:
    """Parameters whose gradients travel as one tensor, all of one type and on one device."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.learning: list[nn.Parameter] = []
        self.waiting = 0
        self.has_gradient: list[bool] = []
        self.flat = parameters[0].new_empty(0)
        self.work: dist.Work | None = None

    def begin(self) -> None:
        """Expect a gradient of every parameter that is not frozen now."""
        self.learning = [parameter for parameter in self.parameters if parameter.requires_grad]
        self.waiting = len(self.learning)
        self.work = None

    def send(self) -> None:
        """Begin to add the gradients up, and beside each how many processes have it."""
        if not self.learning:
            return
        self.has_gradient = [parameter.grad is not None for parameter in self.learning]
        pieces = [p.grad.flatten() if p.grad is not None else torch.zeros_like(p).flatten() for p in self.learning]
        counts = pieces[0].new_ones(len(pieces))
        if not all(self.has_gradient):  # else nothing is copied from the CPU, which a GPU would wait for
            counts = counts.new_tensor(self.has_gradient)
        self.flat = torch.cat([*pieces, counts])
        self.flat[: -len(pieces)] /= dist.get_world_size()
        with distributed.waiting():
            self.work = dist.all_reduce(self.flat, async_op=True)

    def receive(self) -> None:
        """Give the parameters their averages; one that no process has a gradient for keeps none."""
        if self.work is None:
            return
        with distributed.waiting():
            self.work.wait()
        sizes = [parameter.numel() for parameter in self.learning]
        *averages, counts = torch.split(self.flat, [*sizes, len(sizes)])
        for i, (parameter, average) in enumerate(zip(self.learning, averages, strict=True)):
            if self.has_gradient[i] or bool(counts[i] > 0):
                parameter.grad = average.view_as(parameter)
        self.work, self.flat = None, self.flat.new_empty(0)


class GradientSync:
    """Averages the gradients of parameters over all processes, bucket by bucket, as the backward pass makes them.

    A bucket is sent once its last gradient is there and all buckets before it are sent, so that every process sends in
    the same order; what is not complete when the pass ends is sent then. Parameters that are frozen for now are left
    out: all processes must freeze the same ones. A gradient that only some processes have counts as zero in the others.

    The method is that of `DistributedDataParallel` (Li et al. 2020, "PyTorch Distributed: Experiences on Accelerating
    Data Parallel Training", section 3.2), which averages in every backward pass through a network: a generator's loss
    then also costs the gradients of its discriminator, and parameters cannot thaw.

    Args:
        parameters: of one optimizer, in the order of the forward pass.
        bucket_bytes: how many bytes of gradients are sent at once, at least.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], bucket_bytes: int = BUCKET_BYTES) -> None:
        self.buckets: list[_Bucket] = []
        self._bucket_of: dict[nn.Parameter, _Bucket] = {}
        self._sent: int | None = None  # how many buckets of the pass that runs; None: no pass is averaged
        gathered: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
        for parameter in reversed(parameters):  # the last layer's gradients come first
            kind = parameter.dtype, parameter.device
            group = gathered.setdefault(kind, [])
            group.append(parameter)
            if sum(p.numel() * p.element_size() for p in group) >= bucket_bytes:
                self.buckets.append(_Bucket(gathered.pop(kind)))
        self.buckets += [_Bucket(group) for group in gathered.values()]
        for bucket in self.buckets:
            for parameter in bucket.parameters:
                self._bucket_of[parameter] = bucket
                parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    @contextlib.contextmanager
    def averaging(self) -> Iterator[None]:
        """Surrounds a backward pass: after it every gradient, with what was accumulated before, is an average."""
        for bucket in self.buckets:
            bucket.begin()
        self._sent = 0
        try:
            yield
            for bucket in self.buckets[self._sent :]:
                bucket.send()
        finally:
            self._sent = None
        for bucket in self.buckets:
            bucket.receive()

    def _arrived(self, parameter: Tensor) -> None:
        if self._sent is None:
            return
        self._bucket_of[parameter].waiting -= 1  # type: ignore[index]
        while self._sent < len(self.buckets) and self.buckets[self._sent].waiting == 0:
            self.buckets[self._sent].send()
            self._sent += 1

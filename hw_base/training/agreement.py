"""Several processes must train the same parameters and hold the same weights: where they do not, that is an error."""

import zlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from hw_base import distributed
from hw_base.errors import DisagreementError
from hw_base.training.optimization import Optimization

_ADVICE = "Change what is trained, and the weights, in every process alike"


class Agreement:
    """Compares what the processes train with what they exchange anyway, so that it costs nothing.

    A gradient that one process sends and the others do not expect would make all of them wait without end.

    Args:
        model: all of it is compared now, before anything is exchanged.
        optimizations: whose parameters may be frozen and thawed.

    Raises:
        DisagreementError: the models differ.
    """

    def __init__(self, model: nn.Module, optimizations: Iterable[Optimization]) -> None:
        trained = {id(p) for one in optimizations for p in one.parameters if p.requires_grad}
        named = [*model.named_parameters(), *model.named_buffers()]
        parts = [f"{name} {tuple(t.shape)}{' trained' if id(t) in trained else ''}" for name, t in named]
        _same("the models differ", distributed.gather(parts))
        self._known: dict[str, list[str]] = {}
        self._marks: dict[str, Tensor] = {}

    def counts(self, optimization: Optimization, counts: Sequence[Tensor], read: bool) -> list[Tensor]:
        """Sums of counts over all processes; what each of them trains travels with them.

        Args:
            optimization: whose update comes next.
            counts: scalars.
            read: whether to look at what came; at other times only a process that changed something does, because a
                GPU would have to be waited for.

        Raises:
            DisagreementError: the processes train other parameters.
        """
        if not distributed.active():
            return list(counts)
        key, now = optimization.name, optimization.trained_now()
        if now != self._known.get(key):
            digest = float(zlib.crc32("\n".join(now).encode()))
            self._marks[key] = counts[0].new_tensor(digest, dtype=torch.float64)
        mark = self._marks[key]
        *sums, marks = distributed.sum_over_processes(torch.stack([*(c.double() for c in counts), mark])).unbind()
        before, self._known[key] = self._known.get(key, now), now
        if (read or now != before) and bool(marks != mark * distributed.world_size()):
            problem = f"optimizer {key!r}: the processes train different parameters"
            if read:
                _same(problem, distributed.gather(now))
            changed = sorted(set(now) ^ set(before))
            raise DisagreementError(f"{problem}: process {distributed.rank()} changed {', '.join(changed)}. {_ADVICE}")
        return [total.to(count.dtype) for total, count in zip(sums, counts, strict=True)]


def check_replicas(tensors: Mapping[str, Tensor]) -> None:
    """Check that parameters and buffers are equal to the bit in all processes.

    Args:
        tensors: by name, the same names in all processes.

    Raises:
        DisagreementError: naming the first one that is not.
    """
    if not distributed.active() or not tensors:
        return
    sums = torch.stack([_checksum(tensor) for tensor in tensors.values()])
    different = (distributed.largest(sums) != -distributed.largest(-sums)).any(1).tolist()
    names = [name for name, differs in zip(tensors, different, strict=True) if differs]
    if names:
        more = f" and {len(names) - 1} more of {len(different)} tensors" if len(names) > 1 else ""
        raise DisagreementError(
            f"the processes have drifted apart: {names[0]}{more} differ between them. Likely: a tensor is changed "
            "outside of the optimizer, statistics are kept by each process alone (BatchNorm; MaskedBatchNorm and "
            f"SyncBatchNorm are of all), or random numbers decide what is updated. {_ADVICE}"
        )


def _checksum(tensor: Tensor) -> Tensor:
    """Two integers, (2,), that depend on every bit and on its place."""
    flat = tensor.detach().contiguous().flatten()
    if flat.is_complex():
        flat = torch.view_as_real(flat).flatten()
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    bits = (flat.to(torch.uint8) if flat.dtype == torch.bool else flat.view(size)).to(torch.int64)
    places = torch.arange(1, len(bits) + 1, device=bits.device)
    # Sums of integers wrap around, but do not depend on their order.
    return torch.stack([bits.sum(), (bits * places).sum()])


def _same(problem: str, lists: Sequence[Sequence[str]]) -> None:
    for rank, names in enumerate(lists):
        for have, lack, a, b in ((lists[0], names, 0, rank), (names, lists[0], rank, 0)):
            only = [name for name in have if name not in set(lack)]
            if only:
                more = f" and {len(only) - 1} more" if len(only) > 1 else ""
                raise DisagreementError(f"{problem}: {only[0]}{more} in process {a}, not in {b}. {_ADVICE}")

"""What a bad update takes back: the statistics of its forward pass, and weights that an earlier update ruined."""

import torch
from torch import Tensor, nn

from hw_base.training.ema import EMA


class BufferGuard:
    """Lets saved buffers, such as running statistics, change only together with the weights.

    A forward pass changes running statistics before anybody knows whether its loss is finite; one that is not would
    stay in them. All is done on the device: nothing waits for a GPU.

    Args:
        model: whose saved buffers are guarded; parameters are the optimizers'.
    """

    def __init__(self, model: nn.Module) -> None:
        saved = model.state_dict().keys()
        self.groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for name, buffer in model.named_buffers():
            if name in saved and buffer.numel():
                self.groups.setdefault((buffer.dtype, buffer.device), []).append(buffer)
        self._before: list[Tensor] = []

    def begin(self) -> None:
        """Remember the buffers as they are, before the forward passes of an update."""
        self._before = [_flat(buffers) for buffers in self.groups.values()]

    def settle(self, taken: Tensor) -> None:
        """Take back what changed since `begin`, unless the update was taken and all that changed is finite.

        Args:
            taken (Tensor): bool scalar, the same one in every process.
        """
        if not self._before:
            return
        after = [_flat(buffers) for buffers in self.groups.values()]
        good = taken
        for old, new in zip(self._before, after, strict=True):
            # A constant may be infinite: a mask that is added.
            good = good & (torch.isfinite(new) | (new == old)).all().to(good.device)
        if good.device.type == "cpu" and bool(good):
            return
        for buffers, old, new in zip(self.groups.values(), self._before, after, strict=True):
            kept = torch.where(good.to(new.device), new, old).split([b.numel() for b in buffers])  # type: ignore[no-untyped-call]
            torch._foreach_copy_(buffers, [part.view_as(b) for part, b in zip(kept, buffers, strict=True)])


def _flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


class LastGood:
    """The last weights that are known to give a finite and ordinary loss.

    An update with finite gradients can still ruin the weights, which the next forward pass shows. So they are copied
    before an update, and the copy counts once the loss that was computed with them was looked at: in every step on a
    CPU, at logged steps on a GPU.

    Args:
        model: whose parameters and saved buffers are copied.
        average: is copied with them.

    Attributes:
        before: what was proposed last, the parameters first; empty if nothing was.
    """

    def __init__(self, model: nn.Module, average: EMA | None) -> None:
        saved = model.state_dict()
        buffers = [buffer for name, buffer in model.named_buffers() if name in saved]
        self.tensors = [tensor.detach() for tensor in [*model.parameters(), *buffers]]
        self.tensors += average.averages if average is not None else []
        self._candidate: list[Tensor] = []
        self._good: list[Tensor] = []
        self._proposed = False
        self.before: list[Tensor] = []

    def propose(self) -> None:
        """Copy the weights, before the update whose loss will tell about them."""
        if not self._candidate:
            self._candidate = [torch.empty_like(tensor) for tensor in self.tensors]
        torch._foreach_copy_(self._candidate, self.tensors)
        self._proposed, self.before = True, self._candidate

    def confirm(self) -> None:
        """The loss of the proposed weights is good."""
        if self._proposed:
            self._good, self._candidate = self._candidate, self._good
            self._proposed = False

    def restore(self) -> None:
        """Give the model the last good weights, if there were any."""
        if self._good:
            torch._foreach_copy_(self.tensors, self._good)

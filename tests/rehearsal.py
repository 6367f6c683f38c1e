"""A GPU that is not there: tensors that claim to lie on ``cuda`` have shapes, dtypes and devices, and no values.

Under `Rehearsal` everything on the CPU is computed for real and everything on ``cuda`` by
`torch._subclasses.fake_tensor.FakeTensorMode`, which refuses operations on tensors of two devices as CUDA does. Where
the host would wait for the device, the place in the code is noted and made-up values are handed out.

Two kinds of operation ask for a driver before a fake tensor can answer, and are stood in for: recurrent layers and
`ctc_loss`, by functions that demand the devices and shapes that CUDA demands; and backward passes, whose engine wants a
device's context: gradients of zeros take their place, so that clipping, optimizers and guards are rehearsed, and what
autograd functions of our own do in their `backward` is not.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

from hw_base.training.optimization import Optimization
from tests.conftest import ROOT

CUDA = torch.device("cuda", 0)
_PACKAGES = tuple(str(ROOT / name) for name in ("hw_base", "hw_asr", "hw_tts"))
# A copy to the device that is not told otherwise waits for everything before it.
_COPIES = {"_to_copy", "copy_"}


class Rehearsal(TorchDispatchMode):
    """Attributes:
    waits (list[str]): places that wait for the device, ``hw_asr/decoders/greedy.py:__call__``, in their order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        tensors = [leaf for leaf in tree_iter((args, kwargs)) if isinstance(leaf, Tensor)]
        to = kwargs.get("device")
        claimed = [tensor for tensor in tensors if tensor.device.type == "cuda"]
        if not claimed and (to is None or torch.device(to).type != "cuda"):
            return function(*args, **kwargs)
        if name in ("_local_scalar_dense", "equal"):
            self._note()
            return name != "equal" and made_up(claimed[0]).item()
        if name == "copy_" and args[0].device.type == "cpu":
            self._note()
            return args[0].copy_(made_up(args[0]))
        free = kwargs.get("non_blocking") or (name == "copy_" and args[2:] == (True,))
        if name in _COPIES and not free and any(tensor.device.type == "cpu" for tensor in tensors):
            self._note()
        kwargs |= {"generator": None} if "generator" in kwargs else {}
        args, kwargs = tree_map_only(Tensor, self._fake_on_its_device, (args, kwargs))
        try:
            with self.fake:
                result = function(*args, **kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException):
            self._note()
            kwargs |= {"device": "cpu"} if "device" in kwargs else {}
            return self._on_device(function(*tree_map_only(Tensor, made_up, args), **kwargs))
        if any(leaf.device.type == "cpu" for leaf in tree_iter(result) if isinstance(leaf, Tensor)):
            self._note()
            return tree_map_only(Tensor, made_up, result)
        return result

    def _on_device(self, result):
        with self.fake:
            return tree_map_only(Tensor, lambda x: torch.empty(x.shape, dtype=x.dtype, device=CUDA), result)

    def _fake_on_its_device(self, tensor: Tensor) -> Tensor:
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)

    def _note(self) -> None:
        """The innermost function of the packages that is at work."""
        frame = sys._getframe(1)
        while frame is not None and not (
            frame.f_code.co_filename.startswith(_PACKAGES) and frame.f_code.co_name.isidentifier()
        ):  # a comprehension has a frame of its own up to Python 3.11
            frame = frame.f_back
        place = "elsewhere"
        if frame is not None:
            place = f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_code.co_name}"
        self.waits.append(place)


def made_up(tensor: Tensor) -> Tensor:
    """On the CPU: lengths and ids are 1, what is computed is 0, and nothing is true."""
    whole = not tensor.is_floating_point() and tensor.dtype != torch.bool
    return torch.full(tensor.shape, int(whole), dtype=tensor.dtype, device="cpu")


def _recurrence(inputs, hidden, weights, bias, layers, dropout, training, bidirectional, batch_first):
    """The shapes of one recurrent layer in one direction."""
    assert (layers, bidirectional) == (1, False)
    assert {tensor.device for tensor in (inputs, *weights)} == {inputs.device}, "a recurrence on two devices"
    width = weights[1].shape[1]
    states = torch.matmul(inputs, weights[0].mT)[..., :width] + torch.matmul(weights[1], weights[1].mT)[0, 0]
    return states, states[:, -1:]


def _lstm(inputs, hidden, *others):
    states, last = _recurrence(inputs, hidden, *others)
    return states, last, last


def _ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """A value for each utterance; lengths on a GPU would be read back."""
    assert log_probs.device == targets.device, "ctc_loss: log_probs and targets lie on two devices"
    input_lengths.tolist(), target_lengths.tolist()
    losses = log_probs.sum((0, 2)) + targets.sum()
    return losses if reduction == "none" else losses.mean()


def _zeros_for_gradients(self: Optimization, loss: Tensor, last: bool = True) -> None:
    assert (loss.device, loss.dim()) == (CUDA, 0), f"the loss lies on {loss.device}"
    for parameter in self.parameters:
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


@contextlib.contextmanager
def rehearsed(monkeypatch) -> Iterator[Rehearsal]:
    """Inside, ``cuda`` can be used as a device."""
    monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: None)
    monkeypatch.setattr("torch._VF.gru", _recurrence)
    monkeypatch.setattr("torch._VF.lstm", _lstm)
    monkeypatch.setattr("torch.nn.functional.ctc_loss", _ctc_loss)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "a GPU that is not there")
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator())
    monkeypatch.setattr(Optimization, "backward", _zeros_for_gradients)
    torch._C._set_only_lift_cpu_tensors(True)  # so that `torch.tensor` makes its values on the CPU
    try:
        with torch.backends.cudnn.flags(enabled=False), Rehearsal() as rehearsal:
            yield rehearsal
    finally:
        torch._C._set_only_lift_cpu_tensors(False)

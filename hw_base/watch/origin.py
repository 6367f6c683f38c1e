"""Where NaN or infinity began: the batch of a bad update is computed once more, and every layer is listened to."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hw_base import seeding
from hw_base.watch.diagnosis import Diagnosis

_ADVICE_INPUT = "look at these utterances; try without augmentations"


def find(
    networks: Mapping[str, nn.Module],
    compute: Callable[[], Any],
    batch: Mapping[str, Any],
    losses: Mapping[str, Tensor],
) -> Diagnosis:
    """Say where the first value that is not finite came from.

    Args:
        networks: by name.
        compute: the losses of the batch, with no updates; may be called in training mode.
        batch: as the loader gave it.
        losses: of the bad update, by name.
    """
    weights = [
        f"{group}: {name}"
        for group, network in networks.items()
        for name, p in network.named_parameters()
        if not bool(torch.isfinite(p).all())
    ]
    if weights:
        causes = ["an update was too large: the learning rate is too high, or clip_norm is missing", "float16"]
        return _said("nan_in_weights", "weights are not finite", {"weights": weights}, causes, "lower the rate")
    rows = _bad_rows(batch)
    if rows:
        key, names = rows
        causes = ["the logarithm of zero", "an augmentation divides by zero", "samples that are not finite"]
        sentence = f"{key!r} is not finite before it reaches the model"
        return _said("nan_in_input", sentence, {"utterances": names}, causes, _ADVICE_INPUT)
    first = first_bad_layer(networks, compute)
    if first is not None:
        name, bad_input, evidence = first
        evidence["utterances"] = list(batch.get("utterance_id", []))[:8]
        causes = ["a logarithm or root of zero, or a division by it, in this layer", "an overflow: large inputs"]
        after = " whose input is not finite either" if bad_input else ""
        sentence = f"the first layer that gives values that are not finite is {name!r}{after}"
        return _said("nan_in_layer", sentence, evidence, causes, "print this layer's input; mend it")
    bad = [name for name, value in losses.items() if not bool(torch.isfinite(value).all())]
    bad_losses = [name for name in bad if name not in ("loss", "grad_norm")]
    utterances = list(batch.get("utterance_id", []))[:8]
    if bad_losses:
        causes = ["a target that does not fit its frames", "the logarithm of zero in the loss", "an empty batch"]
        sentence = "all layers are finite, the loss is not"
        evidence = {"losses": bad_losses, "utterances": utterances}
        return _said("nan_in_loss", sentence, evidence, causes, "look at the loss and at the targets")
    gradients = [
        f"{group}: {name}"
        for group, network in networks.items()
        for name, p in network.named_parameters()
        if p.grad is not None and not bool(torch.isfinite(p.grad).all())
    ]
    causes = ["the derivative of a root or logarithm at zero, of a norm at zero, or of where()", "an overflow"]
    evidence = {"nearest to the loss": gradients[-1:], "parameters": len(gradients), "utterances": utterances}
    sentence = "losses are finite, their gradients are not"
    return _said("nan_in_gradients", sentence, evidence, causes, "add a small number inside the root or logarithm")


def _said(name: str, sentence: str, evidence: dict[str, Any], causes: Sequence[str], advice: str) -> Diagnosis:
    return Diagnosis(name, sentence, evidence, causes, advice)


def _bad_rows(batch: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The first tensor of a batch that is not finite, and the utterances of its bad rows."""
    for key, value in batch.items():
        if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
            names = batch.get("utterance_id", [])
            bad = (~torch.isfinite(value)).flatten(1).any(1).tolist() if value.dim() > 1 else []
            return key, [name for name, is_bad in zip(names, bad, strict=False) if is_bad]
    return None


def first_bad_layer(
    networks: Mapping[str, nn.Module], compute: Callable[[], Any]
) -> tuple[str, bool, dict[str, Any]] | None:
    """The first layer, in the order of computing, whose output is not finite.

    Returns:
        Its name, whether its input was not finite either, and the largest size of its input; None if all are finite.
    """
    found: list[tuple[str, bool, dict[str, Any]]] = []

    def listen(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(_finite(tensor) for tensor in _tensors(output)):
                given = list(_tensors(inputs))
                largest = max((float(t.abs().max()) for t in given if t.numel()), default=0.0)
                found.append((name, not all(map(_finite, given)), {"largest input": largest}))

        return hook

    layers = [(f"{group}: {name}", m) for group, n in networks.items() for name, m in n.named_modules() if name]
    handles = [module.register_forward_hook(listen(name)) for name, module in layers]
    try:
        with without_trace(networks.values()):
            compute()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


@contextlib.contextmanager
def without_trace(networks: Any) -> Iterator[None]:
    """Inside, networks may compute: running statistics and random numbers are afterwards as they were."""
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    try:
        with torch.no_grad(), seeding.isolated(0):
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)

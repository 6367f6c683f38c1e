"""What every loss keeps to; a task says what its losses are given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hw_base.checks.contract import Contract, NotClaimedError, expect
from hw_base.nn.losses import as_sum_and_count

# Losses that compute in float32 are rough at the smaller step, curved ones at the larger.
_STEPS = (1e-2, 2e-3)


@dataclass(frozen=True)
class LossInputs:
    """A loss and an example of what it is given.

    Attributes:
        loss: the module.
        batch: its keywords, as after the model's forward pass.
        predicted: those keys of the batch that a model gives, float tensors or lists of them.
        padding: key -> mask that is true in the padding and broadcasts to the key's tensor.
        link: what makes predicted values of free ones, where not every tensor is legal; gradients are taken before it.
        target: keys of `batch` at which the loss is least, and that least; None where it has no such value.
    """

    loss: nn.Module
    batch: Mapping[str, Any]
    predicted: Sequence[str]
    padding: Mapping[str, Tensor]
    target: tuple[Mapping[str, Any], float] | None = None
    link: Callable[[Tensor], Tensor] = lambda x: x


LOSS: Contract[Callable[[], LossInputs]] = Contract("loss")


def _value(inputs: LossInputs, changes: Mapping[str, Any] | None = None) -> Tensor:
    mean = as_sum_and_count(inputs.loss(**{**inputs.batch, **(changes or {})}))
    return mean.total.double() / mean.count.clamp(min=1).double()


@LOSS.property("a NaN of 0 * inf, or a shape that broadcasts where it should not")
def the_loss_is_a_finite_number(make: Callable[[], LossInputs]) -> None:
    value = _value(make())
    expect(value.dim() == 0, "a scalar, or a SumAndCount of scalars", tuple(value.shape))
    expect(torch.isfinite(value), "a finite loss", float(value))


@LOSS.property("a sign, or a term that is not a distance")
def the_target_gives_the_least_loss(make: Callable[[], LossInputs]) -> None:
    inputs = make()
    if inputs.target is None:
        raise NotClaimedError("no output of it is known to be best")
    changes, least = inputs.target
    found, other = float(_value(inputs, changes)), float(_value(inputs))
    expect(abs(found - least) <= 1e-3, f"{least:g} at the target", f"{found:.5g}")
    expect(other > found, f"more than {found:.5g} elsewhere", f"{other:.5g}")


@LOSS.property("a mean over all frames or tokens of the batch, or a mask on the wrong axis")
def padding_has_no_part(make: Callable[[], LossInputs]) -> None:
    inputs = make()
    if not inputs.padding:
        raise NotClaimedError("it is given nothing that is padded")
    before = float(_value(inputs))
    for key, mask in inputs.padding.items():
        changed = inputs.batch[key].clone()
        changed = torch.where(mask.expand_as(changed), changed + torch.ones_like(changed) * 3, changed)
        after = float(_value(inputs, {key: changed}))
        expect(
            abs(after - before) <= 1e-5 * max(1.0, abs(before)),
            f"{before:.6g} whatever {key} holds there",
            f"{after:.6g}",
        )


@LOSS.property("a detach() or no_grad() in the loss, or a gradient written by hand")
def the_gradient_equals_differences(make: Callable[[], LossInputs]) -> None:
    inputs = make()
    if not inputs.predicted:
        raise NotClaimedError(
            "finite differences do not apply: a gradient stopped on purpose, or logarithms of tiny values"
        )
    for key in inputs.predicted:
        values = inputs.batch[key]
        parts = [values] if isinstance(values, Tensor) else list(values)
        free = [part.detach().double().requires_grad_() for part in parts]

        def at(changed: list[Tensor], values: Any = values, key: str = key) -> Tensor:
            linked = [inputs.link(part) for part in changed]
            return _value(inputs, {key: linked[0] if isinstance(values, Tensor) else linked})

        at(free).backward()  # type: ignore[no-untyped-call]
        expect(free[0].grad is not None, f"a gradient for {key}", "none")
        generator = torch.Generator().manual_seed(0)
        # Mostly along the gradient, where float32 losses change most, and a little to every side.
        norm = _norm([part.grad for part in free if part.grad is not None])
        sides = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in free]
        direction = [
            (0.0 if part.grad is None else part.grad / max(norm, 1e-12)) + 0.3 * side / _norm(sides)
            for part, side in zip(free, sides, strict=True)
        ]
        slope = 0.0
        for part, way in zip(free, direction, strict=True):
            slope += float((part.grad * way).sum()) if part.grad is not None else 0.0
        found = []
        with torch.no_grad():
            for step in _STEPS:
                up = at([part + step * way for part, way in zip(free, direction, strict=True)])
                down = at([part - step * way for part, way in zip(free, direction, strict=True)])
                found.append(float(up - down) / (2 * step))
        close = any(abs(slope - one) <= 0.03 * max(abs(slope), abs(one)) + 2e-3 for one in found)
        expect(close, f"a slope of {found[0]:.5g} along {key}, by differences", f"a gradient of {slope:.5g}")


def _norm(tensors: Sequence[Tensor]) -> float:
    return float(torch.stack([tensor.square().sum() for tensor in tensors]).sum().sqrt()) if tensors else 0.0

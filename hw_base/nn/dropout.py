"""Dropout whose masks cost little on a CPU."""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Model = TypeVar("Model", bound=nn.Module)

# Below this number of values the fixed cost of a call outweighs what cheap random numbers save.
_FEW = 1 << 14
# Higher rates, which a byte cannot express, are drawn by torch.
_MOST = 255 / 256


class Dropout(nn.Dropout):
    """Zeroes values at random in training (Srivastava et al. 2014); `torch.nn.Dropout` with the masks of `dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` of any shape; unchanged in evaluation."""
        return dropout(x, self.p, self.training)


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """Zero values with probability ``p`` and scale the others so that the mean stays.

    On a CPU torch spends most of a dropout on one Bernoulli number a value. Here eight values share a random word of 64
    bits of the same generator: a value is dropped where its byte is below a threshold. The threshold is
    ``floor(256 p + u)`` with one uniform ``u`` for each call, so that every value is dropped with probability ``p``
    exactly, while the rate of one call is one of the two multiples of 1/256 next to it; what is kept is divided by the
    rate at which this call keeps. Elsewhere, and for few values, this is `torch.nn.functional.dropout`.

    Args:
        x (Tensor): of any shape and floating dtype.
        p: probability, from 0 to 1.
        training: if not, ``x`` is returned as it is.

    Returns:
        Tensor: of the shape and dtype of ``x``.
    """
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu" or x.numel() < _FEW or not 0.0 < p <= _MOST:
        return F.dropout(x, p)
    return _Dropout.apply(x, *random_mask(x, p))  # type: ignore[no-untyped-call, no-any-return]


def random_mask(x: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """A mask of what is kept, as `dropout` draws it.

    Args:
        x (Tensor): what it is for, on the CPU.
        p: probability of 0, below 1.

    Returns:
        mask (Tensor): 0 or 1, uint8, of the shape of ``x`` and its order in memory.
        scale (Tensor): what kept values are multiplied by, (), float32.
    """
    if p > _MOST:
        return torch.empty_like(x, dtype=torch.uint8).bernoulli_(1.0 - p), torch.tensor(1.0 / (1.0 - p))
    threshold = (torch.rand(()) + 256 * p).floor().clamp(max=255)  # a sum just below 256 is rounded up to it
    # From the lowest number up, or the highest bit of every word would be 0.
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    mask = words.view(torch.uint8).ge_(threshold.to(torch.uint8))
    return mask.as_strided(x.shape, torch.empty_like(x).stride()), 256 / (256 - threshold)


def masked(x: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """``x * mask * scale`` in the dtype of ``x``: the mask is converted first, as products of two dtypes are slow."""
    return torch.empty_like(x).copy_(mask).mul_(x).mul_(scale)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(mask, scale)
        return masked(x, mask, scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return masked(gradients[0], *ctx.saved_tensors), None, None


def without_dropout(model: Model) -> Model:
    """The same model, whose dropout of every kind is set to 0 for good."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0  # type: ignore[assignment]
    return model

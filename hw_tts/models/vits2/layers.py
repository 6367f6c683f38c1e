"""Small parts that all networks of the model share: masks, channel norm, weight norm put on and folded away."""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

Conv = TypeVar("Conv", nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d)


def length_mask(length: Tensor, size: int) -> Tensor:
    """True inside each row's length.

    Bool and not float, so that multiplying keeps the precision of what is masked.

    Args:
        length (Tensor): (B,).
        size: columns.

    Returns:
        Tensor: bool, (B, 1, size).
    """
    return (torch.arange(size, device=length.device) < length.unsqueeze(1)).unsqueeze(1)


def masked(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` with zeros where the mask is false; no mask leaves it alone."""
    return x if mask is None else x * mask


class ChannelNorm(nn.Module):
    """Layer norm over the channels of (B, C, T)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        return F.layer_norm(x.transpose(1, -1), self.gamma.shape, self.gamma, self.beta).transpose(1, -1)


def normed(conv: Conv, std: float | None = None) -> Conv:
    """A convolution under weight norm, which loads ``weight_g`` and ``weight_v`` too.

    Args:
        conv: the layer.
        std: draw its weight anew from a normal distribution of this deviation.
    """
    if std is not None:
        nn.init.normal_(conv.weight, 0.0, std)
    weight_norm(conv)  # changes the layer itself
    return conv


def fold_weight_norm(network: nn.Module) -> None:
    """Replace every weight norm by the weight that it computes; the outputs stay, training ends."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight")

"""Normalization in the convolution module, unaffected by padding."""

from typing import Literal

import torch
from torch import Tensor, nn

from hw_base.nn.layers import MaskedBatchNorm, length_mask

NormName = Literal["batch", "layer", "group"]


class MaskedGroupNorm(nn.Module):
    """Group normalization (Wu and He 2018) with statistics over the valid frames of each utterance.

    Names in the state are those of `torch.nn.GroupNorm`, and so are the numbers where nothing is padded.

    Args:
        n_groups: a divisor of the channels.
        n_features: C.
        eps: added to the variance.
    """

    def __init__(self, n_groups: int, n_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.n_groups = n_groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """``x`` (B, C, T) normalized, of its dtype, 0 in the padding."""
        mask = length_mask(length, x.shape[-1])[:, None, None]
        groups = x.float().reshape(x.shape[0], self.n_groups, -1, x.shape[-1]).masked_fill(~mask, 0.0)
        count = (length * groups.shape[2]).clamp(min=1).view(-1, 1, 1, 1)
        centered = groups - groups.sum(dim=(2, 3), keepdim=True) / count
        variance = centered.masked_fill(~mask, 0.0).square().sum(dim=(2, 3), keepdim=True) / count
        normal = (centered * (variance + self.eps).rsqrt()).flatten(1, 2)
        y = torch.addcmul(self.bias[:, None], normal, self.weight[:, None])
        return y.masked_fill(~mask[:, 0], 0.0).to(x.dtype)


class FrameNorm(nn.LayerNorm):
    """Layer normalization of each frame of (B, C, T); 0 in the padding like its siblings."""

    def forward(self, x: Tensor, length: Tensor) -> Tensor:  # type: ignore[override]
        """``x`` (B, C, T) normalized over its channels."""
        y = super().forward(x.transpose(1, 2)).transpose(1, 2)
        return y.masked_fill(~length_mask(length, x.shape[-1])[:, None], 0.0)


def make_norm(name: NormName, n_features: int) -> nn.Module:
    """A norm called with (B, C, T) and lengths (B,); groups have 16 channels or, failing that, are one."""
    if name == "batch":
        return MaskedBatchNorm(n_features)
    if name == "layer":
        return FrameNorm(n_features)
    return MaskedGroupNorm(n_features // 16 if n_features % 16 == 0 else 1, n_features)

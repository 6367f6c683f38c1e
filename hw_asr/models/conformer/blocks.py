"""The Conformer block: feed-forward, attention, convolution, feed-forward (Gulati et al. 2020, section 2)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.models.conformer.attention import RelativeSelfAttention
from hw_asr.models.conformer.depthwise import depthwise
from hw_asr.models.conformer.norms import NormName, make_norm
from hw_base.nn.attention import SelfAttention
from hw_base.nn.dropout import Dropout
from hw_base.nn.layers import length_mask

PositionName = Literal["relative", "absolute", "none"]


class FeedForward(nn.Sequential):
    """Two linear layers with Swish between (section 2.3), normalized before; (B, T, D) -> (B, T, D).

    Args:
        width: D.
        hidden: width between the layers.
        dropout: after the activation and at the end.
    """

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.LayerNorm(width),
            nn.Linear(width, hidden),
            nn.SiLU(),
            Dropout(dropout),
            nn.Linear(hidden, width),
            Dropout(dropout),
        )


class Convolution(nn.Module):
    """Gated pointwise, depthwise and pointwise convolution (section 2.2), normalized before.

    Args:
        width: D.
        kernel_size: of the depthwise convolution, in frames, odd.
        norm: between the depthwise convolution and Swish; the paper's is ``batch``.
        dropout: at the end.
    """

    def __init__(self, width: int, kernel_size: int, norm: NormName, dropout: float) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.norm = make_norm(norm, width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """``x`` (B, T, D), ``length`` (B,) -> (B, T, D)."""
        y = F.glu(self.gate(self.layer_norm(x)), dim=-1)
        y = y.masked_fill(~length_mask(length, y.shape[1])[..., None], 0.0).transpose(1, 2)
        y = F.silu(self.norm(self._over_time(y), length)).transpose(1, 2)
        out: Tensor = self.dropout(self.out(y))
        return out

    def _over_time(self, y: Tensor) -> Tensor:
        """The depthwise convolution, (B, D, T) -> (B, D, T), on a CPU by what is quicker there."""
        conv = self.depthwise
        if y.device.type != "cpu":
            out: Tensor = conv(y)
            return out
        if self.training:
            assert conv.bias is not None
            return depthwise(y, conv.weight, conv.bias)
        padding = (0, *conv.padding)
        return F.conv2d(y[:, :, None], conv.weight[:, :, None], conv.bias, padding=padding, groups=conv.groups)[:, :, 0]


class Block(nn.Module):
    """One layer of the encoder (section 2.4).

    Args:
        width: D.
        n_heads: of the attention.
        hidden: width within the feed-forwards.
        kernel_size: of the convolution, in frames.
        positions: ``relative`` attention needs the offsets' encodings.
        norm: of the convolution.
        dropout: of all modules.
        attention_dropout: of attention weights.
        drop_path: probability with which an utterance skips the block in training (Huang et al. 2016, "Deep Networks
            with Stochastic Depth").
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        hidden: int,
        kernel_size: int,
        positions: PositionName = "relative",
        norm: NormName = "batch",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        attention = RelativeSelfAttention if positions == "relative" else SelfAttention
        self.feed_forward1 = FeedForward(width, hidden, dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = attention(width, n_heads, attention_dropout)
        self.dropout = Dropout(dropout)
        self.convolution = Convolution(width, kernel_size, norm, dropout)
        self.feed_forward2 = FeedForward(width, hidden, dropout)
        self.out_norm = nn.LayerNorm(width)
        self.drop_path = drop_path

    def forward(self, x: Tensor, length: Tensor, key_mask: Tensor, positions: Tensor | None = None) -> Tensor:
        """Run the block.

        Args:
            x (Tensor): (B, T, D).
            length (Tensor): valid frames, (B,), int64.
            key_mask (Tensor): see `SelfAttention`.
            positions (Tensor): see `SelfAttention`.

        Returns:
            Tensor: (B, T, D); what the padding holds means nothing.
        """
        keep = self._keep(x)
        x = x + 0.5 * self._kept(self.feed_forward1(x), keep)
        x = x + self._kept(self.dropout(self.attention(self.attention_norm(x), key_mask, positions)), keep)
        x = x + self._kept(self.convolution(x, length), keep)
        x = x + 0.5 * self._kept(self.feed_forward2(x), keep)
        out: Tensor = self.out_norm(x)
        return out

    @staticmethod
    def _kept(y: Tensor, keep: Tensor | None) -> Tensor:
        return y if keep is None else keep * y

    def _keep(self, x: Tensor) -> Tensor | None:
        """What residual branches are multiplied by, if any are skipped: 0 for those utterances, or more than 1."""
        if not self.training or self.drop_path == 0.0:
            return None
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.drop_path
        return kept.to(x.dtype) / (1.0 - self.drop_path)

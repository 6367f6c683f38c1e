"""The feed-forward Transformer of FastSpeech: attention, then a convolutional feed-forward (Ren et al. 2019)."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.errors import ConfigError
from hw_base.nn.attention import SelfAttention
from hw_base.nn.dropout import Dropout

NormPlace = Literal["pre", "post"]


class ConvFeedForward(nn.Module):
    """Two convolutions over time with ReLU between (Ren et al. 2019, section 3.1).

    Args:
        width: D.
        hidden: channels between the convolutions.
        kernel_sizes: of the two, odd.
        dropout: at the end.
    """

    def __init__(self, width: int, hidden: int, kernel_sizes: tuple[int, int], dropout: float) -> None:
        super().__init__()
        first, second = kernel_sizes
        self.conv1 = nn.Conv1d(width, hidden, first, padding=first // 2)
        self.conv2 = nn.Conv1d(hidden, width, second, padding=second // 2)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (B, T, D), ``mask`` of valid positions (B, T) -> (B, T, D); what ``x``'s padding holds has no part."""
        padding = ~mask[:, None]
        y = F.relu(self.conv1(x.transpose(1, 2).masked_fill(padding, 0.0)))
        if self.conv2.kernel_size[0] > 1:
            y = y.masked_fill(padding, 0.0)
        out: Tensor = self.dropout(self.conv2(y).transpose(1, 2))
        return out


class FFTBlock(nn.Module):
    """One layer: residual attention and residual feed-forward, each with a layer norm.

    Args:
        width: D.
        n_heads: of the attention.
        hidden: channels within the feed-forward.
        kernel_sizes: of its two convolutions.
        norm: ``pre`` normalizes what a branch reads (Xiong et al. 2020, "On Layer Normalization in the Transformer
            Architecture"), ``post`` the sum (as published).
        dropout: at the end of both branches.
        attention_dropout: of attention weights.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        hidden: int,
        kernel_sizes: tuple[int, int] = (9, 1),
        norm: NormPlace = "pre",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.attention = SelfAttention(width, n_heads, attention_dropout)
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = ConvFeedForward(width, hidden, kernel_sizes, dropout)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor, key_mask: Tensor) -> Tensor:
        """Run the block.

        Args:
            x (Tensor): (B, T, D).
            mask (Tensor): valid positions, bool, (B, T).
            key_mask (Tensor): the same, but with at least one position for each utterance.

        Returns:
            Tensor: (B, T, D); what the padding holds means nothing.
        """
        if self.norm == "pre":
            x = x + self.dropout(self.attention(self.attention_norm(x), key_mask[:, None, None]))
            out: Tensor = x + self.feed_forward(self.feed_forward_norm(x), mask)
        else:
            x = self.attention_norm(x + self.dropout(self.attention(x, key_mask[:, None, None])))
            out = self.feed_forward_norm(x + self.feed_forward(x, mask))
        return out


class FFTStack(nn.Module):
    """Blocks one after the other; with ``pre`` norms one more norm follows, as their sum is not normalized.

    Args:
        n_layers: how many blocks.
        width: D.
        n_heads: of the attention; a divisor of D.
        hidden: channels within the feed-forwards.
        kernel_sizes: of their two convolutions, odd.
        norm: see `FFTBlock`.
        dropout: see `FFTBlock`.
        attention_dropout: see `FFTBlock`.

    Raises:
        ConfigError: the width cannot be shared among the heads, or a kernel is even.
    """

    def __init__(
        self,
        n_layers: int,
        width: int,
        n_heads: int,
        hidden: int,
        kernel_sizes: Sequence[int] = (9, 1),
        norm: NormPlace = "pre",
        dropout: float = 0.1,
        attention_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if width % n_heads:
            raise ConfigError(f"width: {width} cannot be shared among {n_heads} heads; take a multiple of n_heads")
        first, second = kernel_sizes
        if first % 2 == 0 or second % 2 == 0:
            raise ConfigError(f"kernel_sizes: {list(kernel_sizes)}; frames stay in their place for odd ones only")
        self.blocks = nn.ModuleList(
            FFTBlock(width, n_heads, hidden, (first, second), norm, dropout, attention_dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(width) if norm == "pre" else None

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (B, T, D), ``mask`` of valid positions (B, T) -> (B, T, D), 0 in the padding."""
        # An utterance of nothing attends to one position of its padding: weights of no key at all would be NaN.
        key_mask = mask.clone()
        key_mask[:, 0] = True
        for block in self.blocks:
            x = block(x, mask, key_mask)
        if self.norm is not None:
            x = self.norm(x)
        return x.masked_fill(~mask[..., None], 0.0)

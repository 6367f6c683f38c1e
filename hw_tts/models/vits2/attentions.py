"""Transformer blocks with relative positions (Shaw et al. 2018, arXiv 1803.02155)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.nn.dropout import Dropout
from hw_tts.models.vits2.layers import ChannelNorm, masked


class RelativeAttention(nn.Module):
    """Self-attention whose keys and values know the distance to the query, up to a window.

    Args:
        channels: width.
        n_heads: heads; they share the distance embeddings.
        dropout: of the attention weights.
        window: distances beyond it have no embedding.
    """

    def __init__(self, channels: int, n_heads: int, dropout: float, window: int = 4) -> None:
        super().__init__()
        self.n_heads, self.window = n_heads, window
        size = channels // n_heads
        self.emb_rel_k = nn.Parameter(torch.randn(1, 2 * window + 1, size) * size**-0.5)
        self.emb_rel_v = nn.Parameter(torch.randn(1, 2 * window + 1, size) * size**-0.5)
        self.conv_q = nn.Conv1d(channels, channels, 1)
        self.conv_k = nn.Conv1d(channels, channels, 1)
        self.conv_v = nn.Conv1d(channels, channels, 1)
        self.conv_o = nn.Conv1d(channels, channels, 1)
        self.drop = Dropout(dropout)
        for conv in (self.conv_q, self.conv_k, self.conv_v):
            nn.init.xavier_uniform_(conv.weight)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` (B, C, T), ``mask`` bool (B, 1, T) or None where all is valid -> (B, C, T)."""
        query, key, value = (self._heads(conv(x)) for conv in (self.conv_q, self.conv_k, self.conv_v))
        query = query / math.sqrt(query.shape[-1])
        scores = query @ key.mT + skew(query @ self.emb_rel_k.mT.to(query.dtype), self.window)
        if mask is not None:
            scores = scores.masked_fill(~mask.unsqueeze(1), -1e4)
        weights = self.drop(scores.softmax(dim=-1))
        mixed = weights @ value + unskew(weights, self.window) @ self.emb_rel_v.to(weights.dtype)
        out: Tensor = self.conv_o(mixed.mT.reshape(x.shape))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, H, T, C / H)."""
        return x.view(x.shape[0], self.n_heads, -1, x.shape[-1]).mT


def skew(relative: Tensor, window: int) -> Tensor:
    """Values by distance -> values by position, 0 beyond the window.

    Args:
        relative (Tensor): (..., T, 2 window + 1), entry ``[i, k]`` belongs to the key ``i + k - window``.
        window: the greatest distance.

    Returns:
        Tensor: (..., T, T).
    """
    size = relative.shape[-2]
    rows = F.pad(relative, (0, size)).flatten(-2)  # read in rows one shorter, each row moves one to the right
    rows = rows.narrow(-1, 0, size * (size + 2 * window)).reshape(*relative.shape[:-1], size + 2 * window)
    return rows.narrow(-1, window, size)


def unskew(absolute: Tensor, window: int) -> Tensor:
    """Values by position (..., T, T) -> values by distance (..., T, 2 window + 1), the inverse of `skew`."""
    size = absolute.shape[-1]
    rows = F.pad(F.pad(absolute, (window, window)).flatten(-2), (0, size))
    return rows.view(*absolute.shape[:-1], size + 2 * window + 1).narrow(-1, 0, 2 * window + 1)


class FeedForward(nn.Module):
    """Two convolutions with a rectifier between them."""

    def __init__(self, channels: int, filter_channels: int, kernel_size: int, dropout: float) -> None:
        super().__init__()
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.conv_2 = nn.Conv1d(filter_channels, channels, kernel_size, padding=kernel_size // 2)
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` (B, C, T) -> (B, C, T)."""
        hidden = self.drop(torch.relu(self.conv_1(masked(x, mask))))
        return masked(self.conv_2(masked(hidden, mask)), mask)


class Encoder(nn.Module):
    """Transformer blocks, each normed after its residual sums.

    Args:
        channels: width.
        filter_channels: inner width of the feed-forward parts.
        n_heads: heads of each attention.
        n_layers: blocks.
        kernel_size: of the feed-forward convolutions.
        dropout: everywhere.
        speaker_channels: width of the speaker embedding; 0 for none.
        speaker_layer: the block before which the speaker is added (VITS2, section 2.4; the third by default).
    """

    def __init__(
        self,
        channels: int,
        filter_channels: int,
        n_heads: int,
        n_layers: int,
        kernel_size: int,
        dropout: float,
        speaker_channels: int = 0,
        speaker_layer: int = 2,
    ) -> None:
        super().__init__()
        self.drop = Dropout(dropout)
        self.attn_layers = nn.ModuleList(RelativeAttention(channels, n_heads, dropout) for _ in range(n_layers))
        self.norm_layers_1 = nn.ModuleList(ChannelNorm(channels) for _ in range(n_layers))
        self.ffn_layers = nn.ModuleList(
            FeedForward(channels, filter_channels, kernel_size, dropout) for _ in range(n_layers)
        )
        self.norm_layers_2 = nn.ModuleList(ChannelNorm(channels) for _ in range(n_layers))
        self.spk_emb_linear = nn.Linear(speaker_channels, channels) if speaker_channels else None
        self.speaker_layer = min(speaker_layer, n_layers - 1)

    def forward(self, x: Tensor, mask: Tensor | None, speaker: Tensor | None = None) -> Tensor:
        """``x`` (B, C, T), ``speaker`` (B, G, 1) -> (B, C, T), 0 in the padding."""
        blocks = zip(self.attn_layers, self.norm_layers_1, self.ffn_layers, self.norm_layers_2, strict=True)
        for index, (attention, norm_1, feed_forward, norm_2) in enumerate(blocks):
            if self.spk_emb_linear is not None and index == self.speaker_layer and speaker is not None:
                x = x + self.spk_emb_linear(speaker.mT).mT
            x = masked(x, mask)
            x = norm_1(x + self.drop(attention(x, mask)))
            x = norm_2(x + self.drop(feed_forward(x, mask)))
        return masked(x, mask)

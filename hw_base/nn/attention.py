"""Multi-head self-attention; a subclass may bias its scores."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.nn.attention_training import attend

# Queries that attend at a time outside of training, so that memory grows with the length and not with its square.
CHUNK = 256


class SelfAttention(nn.Module):
    """Scaled dot-product attention of a sequence to itself (Vaswani et al. 2017, section 3.2).

    Args:
        width: D.
        n_heads: H, a divisor of D.
        dropout: of attention weights.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.in_projection = nn.Linear(width, 3 * width)
        self.out_projection = nn.Linear(width, width)

    def forward(self, x: Tensor, key_mask: Tensor, positions: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x (Tensor): (B, T, D).
            key_mask (Tensor): keys that may be attended to, at least one for each utterance, bool, (B, 1, 1, T).
            positions (Tensor): encodings of all offsets, (2 T - 1, D), for relative attention only.

        Returns:
            Tensor: (B, T, D).
        """
        projected = self.in_projection(x).unflatten(-1, (3, self.n_heads, -1))
        offsets = self._offsets(positions)
        dropout = self.dropout if self.training else 0.0
        needs = dropout > 0.0 or offsets is not None or projected.dtype == torch.bfloat16
        if self.training and x.device.type == "cpu" and needs:
            # With dropout or a bias that is trained, torch's own has no fused form on a CPU; in bfloat16 it is slower.
            out: Tensor = self.out_projection(attend(projected, key_mask, dropout, offsets, self._query_biases()))
            return out
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        whole = self.training or torch.compiler.is_exporting()  # a graph has no loop over chunks
        parts = []
        for start in [0] if whole else range(0, max(1, query.shape[2]), CHUNK):
            piece = query if whole else query[:, :, start : start + CHUNK]
            biased, bias = self._biased(piece, key_mask, offsets, start)
            parts.append(F.scaled_dot_product_attention(biased, key, value, attn_mask=bias, dropout_p=dropout))
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        out = self.out_projection(y.transpose(1, 2).flatten(2))
        return out

    def _offsets(self, positions: Tensor | None) -> Tensor | None:
        """Projected encodings of all offsets for relative attention, (H, D / H, 2 T - 1), once for all chunks."""
        return None

    def _query_biases(self) -> tuple[Tensor, Tensor] | None:
        """What queries are biased by for contents and for offsets, each (H, 1, D / H), where there are offsets."""
        return None

    def _biased(self, query: Tensor, key_mask: Tensor, offsets: Tensor | None, start: int) -> tuple[Tensor, Tensor]:
        """Bias the scores of some queries.

        Args:
            query (Tensor): of ``n`` frames, (B, H, n, D / H).
            key_mask (Tensor): see `forward`.
            offsets (Tensor): what `_offsets` gave.
            start: the first of the frames.

        Returns:
            query (Tensor): (B, H, n, D / H).
            bias (Tensor): what is added to (or masks) the scores, broadcastable to (B, H, n, T).
        """
        return query, key_mask

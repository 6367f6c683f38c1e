"""Multi-head self-attention, with and without relative positions."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.models.conformer.positions import relative_shift


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
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        query, bias = self._biased(query, key_mask, positions)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout)
        out: Tensor = self.out_projection(y.transpose(1, 2).flatten(2))
        return out

    def _biased(self, query: Tensor, key_mask: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Queries (B, H, T, D / H), and what is added to (or masks) the scores, broadcastable to (B, H, T, T)."""
        return query, key_mask


class RelativeSelfAttention(SelfAttention):
    """Attention that knows how far apart two frames are (Dai et al. 2019, "Transformer-XL", section 3.3).

    The score of key j for query i is ``(q_i + u) k_j + (q_i + v) W r_(i - j)``, divided by the root of the width. Its
    second term is the bias of one fused attention.

    Args:
        width: D.
        n_heads: H, a divisor of D.
        dropout: of attention weights.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__(width, n_heads, dropout)
        self.position_projection = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(n_heads, 1, width // n_heads))
        self.position_bias = nn.Parameter(torch.zeros(n_heads, 1, width // n_heads))

    def _biased(self, query: Tensor, key_mask: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        assert positions is not None
        offsets = self.position_projection(positions).unflatten(-1, (self.n_heads, -1)).permute(1, 2, 0)
        by_offset = torch.matmul((query + self.position_bias) * query.shape[-1] ** -0.5, offsets)
        bias = relative_shift(by_offset).masked_fill(~key_mask, -torch.inf)
        return query + self.content_bias, bias

"""Multi-head self-attention; a subclass may bias its scores."""

from torch import Tensor, nn
from torch.nn import functional as F


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

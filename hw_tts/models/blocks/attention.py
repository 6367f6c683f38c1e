"""Multi-head self-attention."""

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

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend.

        Args:
            x (Tensor): (B, T, D).
            mask (Tensor): which positions may be attended to, at least one for each utterance, bool, (B, T).

        Returns:
            Tensor: (B, T, D); what the padding holds means nothing.
        """
        projected = self.in_projection(x).unflatten(-1, (3, self.n_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None], dropout_p=dropout)
        out: Tensor = self.out_projection(y.transpose(1, 2).flatten(2))
        return out

"""Self-attention with relative positions."""

import torch
from torch import Tensor, nn

from hw_base.nn.attention import SelfAttention
from hw_base.nn.attention_training import relative_shift


class RelativeSelfAttention(SelfAttention):
    """Attention that knows how far apart two frames are (Dai et al. 2019, "Transformer-XL", section 3.3).

    The score of key j for query i is ``(q_i + u) k_j + (q_i + v) W r_(i - j)``, divided by the root of the width. Its
    second term is the bias of one fused attention, or both are computed by `attend`.

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

    def _offsets(self, positions: Tensor | None) -> Tensor:
        assert positions is not None
        offsets: Tensor = self.position_projection(positions).unflatten(-1, (self.n_heads, -1)).permute(1, 2, 0)
        return offsets

    def _query_biases(self) -> tuple[Tensor, Tensor]:
        return self.content_bias, self.position_bias

    def _biased(self, query: Tensor, key_mask: Tensor, offsets: Tensor | None, start: int) -> tuple[Tensor, Tensor]:
        assert offsets is not None
        n, last = query.shape[2], (offsets.shape[-1] - 1) // 2
        # Of the offsets last, ..., -last those that these queries can have: start + n - 1, ..., start - last.
        own = offsets[..., last - (start + n - 1) : 2 * last + 1 - start]
        by_offset = torch.matmul((query + self.position_bias) * query.shape[-1] ** -0.5, own)
        bias = relative_shift(by_offset).masked_fill(~key_mask, -torch.inf)
        return query + self.content_bias, bias

import pytest
import torch
from torch import nn

from hw_base.nn.attention import SelfAttention
from hw_base.nn.layers import length_mask

LENGTH = torch.tensor([7, 3, 1])


@torch.no_grad()
def test_equals_the_formula_head_by_head():
    torch.manual_seed(0)
    attention = SelfAttention(6, 2, dropout=0.5).eval()
    x = torch.randn(3, 7, 6)
    out = attention(x, length_mask(LENGTH, 7)[:, None, None])
    for b, n in enumerate(LENGTH):
        query, key, value = attention.in_projection(x[b]).split(6, dim=-1)
        heads = []
        for head in (slice(0, 3), slice(3, 6)):
            scores = query[:, head] @ key[:n, head].T / 3**0.5
            heads.append(scores.softmax(-1) @ value[:n, head])
        torch.testing.assert_close(out[b], attention.out_projection(torch.cat(heads, dim=-1)), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_equals_torch(n_heads):
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(8, n_heads, batch_first=True).eval()
    ours = SelfAttention(8, n_heads, dropout=0.0)
    ours.in_projection.weight.copy_(theirs.in_proj_weight)
    ours.in_projection.bias.copy_(theirs.in_proj_bias.normal_())
    ours.out_projection.load_state_dict(theirs.out_proj.state_dict())
    x, mask = torch.randn(3, 7, 8), length_mask(LENGTH, 7)
    expected = theirs(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
    torch.testing.assert_close(ours(x, mask[:, None, None])[mask], expected[mask], atol=1e-6, rtol=0)


def test_dropout_is_of_training_alone():
    attention, x = SelfAttention(8, 2, dropout=0.5), torch.randn(2, 7, 8)
    mask = length_mask(torch.tensor([7, 7]), 7)[:, None, None]
    assert not torch.equal(attention(x, mask), attention(x, mask))
    attention.eval()
    assert torch.equal(attention(x, mask), attention(x, mask))

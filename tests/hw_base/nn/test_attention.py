import pytest
import torch
from torch import nn

from hw_base.nn import attention_training
from hw_base.nn.attention import SelfAttention
from hw_base.nn.attention_training import attend
from hw_base.nn.dropout import random_mask
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


def test_training_under_autocast_is_near_single_precision():
    torch.manual_seed(0)
    attention, x = SelfAttention(32, 2, dropout=0.0).train(), torch.randn(3, 7, 32)
    mask, valid = length_mask(LENGTH, 7)[:, None, None], length_mask(LENGTH, 7)
    weights = torch.randn(3, 7, 32) * valid[..., None]

    def run(enabled):
        attention.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = attention(x, mask)
        (out.float() * weights).sum().backward()
        return [out.detach().float()[valid], *(p.grad.clone() for p in attention.parameters())]

    for exact, rounded in zip(run(False), run(True), strict=True):
        assert (rounded - exact).abs().max() < 0.02 * exact.abs().max().clamp(min=1.0)


def formula(projected, key_mask, offsets=None, biases=None, weights_of=None):
    """One utterance and head after the other; dropout is given as what weights are multiplied by."""
    n_batch, n_frames, _, n_heads, size = projected.shape
    out = projected.new_zeros(n_batch, n_frames, n_heads, size)
    for b in range(n_batch):
        for h in range(n_heads):
            query, key, value = projected[b, :, :, h].unbind(1)
            scores = query @ key.T
            if offsets is not None:
                u, v = (bias[h] for bias in biases)
                distance = torch.arange(n_frames)[:, None] - torch.arange(n_frames)
                by_offset = (query + v) @ offsets[h]
                scores = (query + u) @ key.T + by_offset.gather(1, n_frames - 1 - distance)
            scores = (scores / size**0.5).masked_fill(~key_mask[b, 0], -torch.inf)
            weights = scores.softmax(-1)
            out[b, :, h] = (weights if weights_of is None else weights * weights_of[h, b]) @ value
    return out.flatten(2)


def inputs(n_frames, relative, n_batch=3, n_heads=2, size=3):
    projected = torch.randn(n_batch, n_frames, 3, n_heads, size, dtype=torch.float64, requires_grad=True)
    if not relative:
        return projected, None, None
    offsets = torch.randn(n_heads, size, 2 * n_frames - 1, dtype=torch.float64, requires_grad=True)
    biases = [torch.randn(n_heads, 1, size, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    return projected, offsets, tuple(biases)


def leaves(projected, offsets, biases):
    return [projected] if offsets is None else [projected, offsets, *biases]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("n_frames", [1, 7, 11])
def test_attention_in_training_equals_the_formula(relative, padded, n_frames, monkeypatch):
    """Outputs and gradients, in chunks of 4 queries of which the last is shorter."""
    torch.manual_seed(0)
    monkeypatch.setattr(attention_training, "CHUNK", 4)
    arguments = inputs(n_frames, relative)
    length = torch.tensor([n_frames, max(1, n_frames // 2), 1]) if padded else torch.full((3,), n_frames)
    key_mask = length_mask(length, n_frames)[:, None, None]
    out = attend(arguments[0], key_mask, 0.0, *arguments[1:])
    expected = formula(arguments[0], key_mask, *arguments[1:])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), leaves(*arguments))
    theirs = torch.autograd.grad((expected * weights).sum(), leaves(*arguments))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("relative", [True, False])
def test_dropout_of_weights_in_training_equals_the_formula(relative, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(attention_training, "CHUNK", 4)
    drawn = []

    def recorded(weights, p):
        mask, scale = random_mask(weights, p)
        drawn.append(mask * scale)
        return mask, scale

    monkeypatch.setattr(attention_training, "random_mask", recorded)
    arguments = inputs(11, relative)
    key_mask = length_mask(torch.tensor([11, 5, 1]), 11)[:, None, None]
    out = attend(arguments[0], key_mask, 0.4, *arguments[1:])
    expected = formula(arguments[0], key_mask, *arguments[1:], weights_of=torch.cat(drawn, dim=2))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)  # the scale is in single precision
    weights = torch.randn_like(out)
    ours = torch.autograd.grad((out * weights).sum(), leaves(*arguments))
    theirs = torch.autograd.grad((expected * weights).sum(), leaves(*arguments))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    share = 1 - float(torch.cat(drawn, dim=2).bool().float().mean())
    assert 0.3 < share < 0.5

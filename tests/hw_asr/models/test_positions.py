import math

import pytest
import torch
from torch import nn

from hw_asr.models.conformer.attention import RelativeSelfAttention
from hw_asr.models.conformer.positions import RelativePositions, SinusoidalPositions, sinusoids
from hw_base.nn.attention import SelfAttention
from hw_base.nn.attention_training import relative_shift
from hw_base.nn.layers import length_mask


@pytest.mark.parametrize("width", [1, 2, 5, 8, 33])
def test_sinusoids_follow_the_formula(width):
    positions = [-7, -1, 0, 1, 3, 500]
    expected = [
        [(math.sin if i % 2 == 0 else math.cos)(p / 10000 ** (2 * (i // 2) / width)) for i in range(width)]
        for p in positions
    ]
    torch.testing.assert_close(sinusoids(torch.tensor(positions), width), torch.tensor(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("n_frames", [0, 1, 3, 6000])
def test_absolute_positions_are_added_at_any_length(n_frames):
    x = torch.randn(2, n_frames, 7)
    added = SinusoidalPositions(7)(x) - x
    assert added.shape == x.shape
    torch.testing.assert_close(added, sinusoids(torch.arange(n_frames), 7).expand(2, -1, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 2, 9])
def test_relative_positions_go_from_the_past_to_the_future(n_frames):
    encodings = RelativePositions(6)(torch.zeros(1, n_frames, 6))
    assert encodings.shape == (2 * n_frames - 1, 6)
    for row, offset in enumerate(range(n_frames - 1, -n_frames, -1)):
        torch.testing.assert_close(encodings[row], sinusoids(torch.tensor([offset]), 6)[0])


@pytest.mark.parametrize("n_frames", [1, 2, 3, 8])
def test_relative_shift_equals_the_brute_force_matrix(n_frames):
    scores = torch.randn(2, 3, n_frames, 2 * n_frames - 1, dtype=torch.float64, requires_grad=True)
    expected = torch.empty(2, 3, n_frames, n_frames, dtype=torch.float64)
    for i in range(n_frames):
        for j in range(n_frames):
            expected[:, :, i, j] = scores[:, :, i, n_frames - 1 - (i - j)].detach()
    torch.testing.assert_close(relative_shift(scores), expected, rtol=0, atol=0)
    # Part of a larger tensor, whose data do not begin at the beginning of its memory.
    torch.testing.assert_close(relative_shift(scores[1:]), expected[1:], rtol=0, atol=0)
    assert torch.autograd.gradcheck(relative_shift, scores)


def brute_force_attention(module, x, length, positions, n_heads):
    """One number after the other, by the formula of Dai et al. 2019, section 3.3."""
    n_batch, n_frames, width = x.shape
    size = width // n_heads
    weight, bias = (
        module.in_projection.weight.view(3, n_heads, size, width),
        module.in_projection.bias.view(3, n_heads, size),
    )
    out = torch.zeros_like(x)
    for b in range(n_batch):
        for h in range(n_heads):
            q, k, v = (x[b] @ weight[part, h].T + bias[part, h] for part in range(3))
            for i in range(n_frames):
                scores = []
                for j in range(int(length[b])):
                    score = q[i] @ k[j]
                    if positions:
                        r = module.position_projection(sinusoids(torch.tensor([i - j]), width).to(x.dtype)[0])
                        r = r.view(n_heads, size)[h]
                        score = (q[i] + module.content_bias[h, 0]) @ k[j] + (q[i] + module.position_bias[h, 0]) @ r
                    scores.append(score / math.sqrt(size))
                weights = torch.stack(scores).softmax(0)
                out[b, i, h * size : (h + 1) * size] = weights @ v[: int(length[b])]
    return module.out_projection(out)


@pytest.mark.parametrize("relative", [True, False])
@torch.no_grad()
def test_attention_equals_the_formula(relative):
    torch.manual_seed(0)
    n_heads, width, n_frames = 2, 6, 5
    module = (RelativeSelfAttention if relative else SelfAttention)(width, n_heads, 0.0).double()
    if relative:
        module.content_bias.normal_()
        module.position_bias.normal_()
    x, length = torch.randn(2, n_frames, width, dtype=torch.float64), torch.tensor([5, 3])
    key_mask = (torch.arange(n_frames) < length[:, None])[:, None, None]
    positions = RelativePositions(width)(x) if relative else None
    expected = brute_force_attention(module, x, length, relative, n_heads)
    torch.testing.assert_close(module(x, key_mask, positions), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_training_equals_evaluation_without_dropout(dtype):
    """Two ways to the same numbers: the chunks of training, and torch's fused attention."""
    torch.manual_seed(0)
    attention = RelativeSelfAttention(16, 2, dropout=0.0)
    nn.init.normal_(attention.content_bias)
    nn.init.normal_(attention.position_bias)
    x, length = torch.randn(3, 230, 16, requires_grad=True), torch.tensor([230, 101, 7])
    arguments = (length_mask(length, 230)[:, None, None], torch.randn(459, 16))
    found = []
    for training in (True, False):
        attention.train(training).zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y = attention(x, *arguments)
        x.grad = None
        y.float().square().sum().backward()
        found.append([y.float(), x.grad, *(p.grad for p in attention.parameters())])
    for ours, theirs in zip(*found, strict=True):
        scale = float(theirs.detach().abs().max())
        assert float((ours - theirs).detach().abs().max()) < (1e-5 if dtype == torch.float32 else 3e-2) * scale

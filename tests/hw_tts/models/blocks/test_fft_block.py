import pytest
import torch
from torch.nn import functional as F

from hw_base.errors import ConfigError
from hw_base.nn.layers import length_mask
from hw_tts.models.blocks.fft_block import FFTBlock, FFTStack

LENGTHS = [9, 1, 4, 12]


def stack(norm="pre", **changes):
    torch.manual_seed(0)
    sizes = {"n_layers": 2, "width": 8, "n_heads": 2, "hidden": 12, "kernel_sizes": (5, 3), "norm": norm}
    return FFTStack(**{**sizes, **changes})


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("kernels", [(9, 1), (3, 5)])
@torch.no_grad()
def test_padding_has_no_influence(norm, kernels):
    network = stack(norm, kernel_sizes=kernels).eval()
    x = torch.randn(4, 15, 8) * 3
    mask = length_mask(torch.tensor(LENGTHS), 15)
    out = network(torch.where(mask[..., None], x, 1e4), mask)
    for i, n in enumerate(LENGTHS):
        alone = network(x[i : i + 1, :n], torch.ones(1, n, dtype=torch.bool))
        torch.testing.assert_close(out[i, :n], alone[0], atol=1e-5, rtol=0)
    assert (out[~mask] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_where_the_norms_stand(norm):
    torch.manual_seed(0)
    block, x = FFTBlock(8, 2, 12, (3, 1), norm).eval(), torch.randn(2, 6, 8)
    mask = torch.ones(2, 6, dtype=torch.bool)

    def feed_forward(y):
        y = F.conv1d(y.mT, block.feed_forward.conv1.weight, block.feed_forward.conv1.bias, padding=1).relu()
        return F.conv1d(y, block.feed_forward.conv2.weight, block.feed_forward.conv2.bias).mT

    def layer_norm(y):
        return (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    if norm == "pre":
        y = x + block.attention(layer_norm(x), mask[:, None, None])
        expected = y + feed_forward(layer_norm(y))
    else:
        y = layer_norm(x + block.attention(x, mask[:, None, None]))
        expected = layer_norm(y + feed_forward(y))
    torch.testing.assert_close(block(x, mask, mask), expected, atol=1e-5, rtol=0)


def test_an_utterance_of_nothing_gives_numbers():
    mask = length_mask(torch.tensor([0, 3]), 4)
    out = stack()(torch.randn(2, 4, 8, requires_grad=True), mask)
    out.sum().backward()
    assert out.isfinite().all()
    assert (out[0] == 0).all()


def test_gradient_reaches_every_parameter():
    for norm in ("pre", "post"):
        network = stack(norm)
        network(torch.randn(2, 9, 8), length_mask(torch.tensor([9, 5]), 9)).pow(3).sum().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"n_heads": 3}, "8 cannot be shared among 3 heads"), ({"kernel_sizes": (4, 1)}, r"kernel_sizes: \[4, 1\]")],
)
def test_impossible_sizes(changes, message):
    with pytest.raises(ConfigError, match=message):
        stack(**changes)

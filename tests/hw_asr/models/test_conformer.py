import itertools

import pytest
import torch
from torch import nn

from hw_asr.losses.ctc import CTCLoss
from hw_asr.losses.intermediate_ctc import InterCTC
from hw_asr.models.conformer import Conformer
from hw_asr.models.conformer.blocks import Block, Convolution
from hw_asr.models.conformer.norms import FrameNorm, MaskedGroupNorm
from hw_asr.models.conformer.subsampling import Subsampling
from hw_base.errors import ConfigError, DataError
from hw_base.nn.layers import length_mask

SMALL = {"n_layers": 3, "width": 16, "n_heads": 2, "ff_width": 24, "kernel_size": 5, "subsampling_channels": 4}
STILL = {"dropout": 0.0, "attention_dropout": 0.0}
POSITIONS, NORMS = ("relative", "absolute", "none"), ("batch", "layer", "group")
SUBSAMPLINGS = ("conv2d", "separable4", "separable8")


def small(**arguments) -> Conformer:
    torch.manual_seed(0)
    return Conformer(n_mels=20, n_tokens=7, **{**SMALL, **arguments})


def batch(lengths: list[int], n_mels: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    """Spectrograms with garbage in the padding."""
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(len(lengths), n_mels, max(lengths), generator=generator), torch.tensor(lengths)


@pytest.mark.parametrize("kind", SUBSAMPLINGS)
def test_subsampling_begins_with_the_scale_of_its_input(kind):
    """Or positions and residual branches, all of about 1, would drown what was said."""
    torch.manual_seed(0)
    noise = torch.randn(4, 1, 64, 400)
    spectrogram = nn.functional.avg_pool2d(noise, 5, 1, 2)[:, 0]
    spectrogram /= spectrogram.std()
    x, _ = Subsampling(64, 144, kind, 32)(spectrogram, torch.full((4,), 400))
    assert 0.5 < x.square().mean().sqrt() < 2.0
    assert x.std(dim=1).mean() > 0.3


def copy_from_torchaudio(block: Block, layer: nn.Module) -> None:
    pairs = [
        (block.attention_norm, layer.self_attn_layer_norm),
        (block.attention.out_projection, layer.self_attn.out_proj),
        (block.convolution.layer_norm, layer.conv_module.layer_norm),
        (block.convolution.depthwise, layer.conv_module.sequential[2]),
        (block.convolution.norm, layer.conv_module.sequential[3]),
        (block.out_norm, layer.final_layer_norm),
    ]
    for ours, theirs in ((block.feed_forward1, layer.ffn1), (block.feed_forward2, layer.ffn2)):
        pairs += [(ours[i], theirs.sequential[i]) for i in (0, 1, 4)]
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
    block.attention.in_projection.load_state_dict(
        {"weight": layer.self_attn.in_proj_weight, "bias": layer.self_attn.in_proj_bias}
    )
    for ours, theirs in ((block.convolution.gate, 0), (block.convolution.out, 5)):
        pointwise = layer.conv_module.sequential[theirs]
        ours.load_state_dict({"weight": pointwise.weight[..., 0], "bias": pointwise.bias})


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize("training", [False, True])
def test_blocks_equal_torchaudio(norm, training):
    """Utterances of one length: torchaudio's convolution sees the padding, ours does not."""
    torchaudio = pytest.importorskip("torchaudio", reason="the reference")
    torch.manual_seed(0)
    reference = torchaudio.models.Conformer(24, 4, 32, 3, 7, use_group_norm=norm == "group").train(training)
    for p in reference.parameters():
        nn.init.normal_(p, std=0.3)
    for name, buffer in reference.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    model = Conformer(20, 7, 3, 24, 4, 32, 7, "none", norm, **STILL).train(training)
    for block, layer in zip(model.blocks, reference.conformer_layers, strict=True):
        copy_from_torchaudio(block, layer)
    x, length = torch.randn(3, 15, 24), torch.tensor([15, 15, 15])
    expected, _ = reference(x, length)
    for block in model.blocks:
        x = block(x, length, torch.ones(3, 1, 1, 15, dtype=torch.bool))
    torch.testing.assert_close(x, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("positions", "norm"), list(itertools.product(POSITIONS, NORMS)))
@torch.no_grad()
def test_padding_has_no_influence(positions, norm):
    kinds = dict(zip(POSITIONS, SUBSAMPLINGS, strict=True))
    model = small(positions=positions, norm=norm, subsampling=kinds[positions], intermediate_layers=(1,)).eval()
    for buffer in model.buffers():
        if buffer.dtype == torch.float32:
            buffer.uniform_(0.5, 1.5)
    x, lengths = batch([61, 40, 9, 1])
    together = model(x, lengths)
    for i, n in enumerate(lengths.tolist()):
        alone = model(x[i : i + 1, :, :n], lengths[i : i + 1])
        frames = int(alone["log_probs_length"])
        assert int(together["log_probs_length"][i]) == frames == alone["log_probs"].shape[1]
        torch.testing.assert_close(together["log_probs"][i, :frames], alone["log_probs"][0], rtol=0, atol=1e-5)
        early = together["intermediate_log_probs"][0, i, :frames]
        torch.testing.assert_close(early, alone["intermediate_log_probs"][0, 0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_lengths_are_those_of_the_output(subsampling):
    module = Subsampling(20, 8, subsampling, 4)
    factor = 8 if subsampling == "separable8" else 4
    for n in range(1, 50):
        y, length = module(torch.randn(1, 20, n), torch.tensor([n]))
        assert y.shape == (1, int(length), 8)
        assert int(length) == -(-n // factor) == int(module.output_lengths(torch.tensor([n])))


def plain_subsampling(module, x, length):
    """Every tensor masked by a product and rectified on its own."""
    x, mask = x[:, None], length_mask(length, x.shape[-1])
    x = torch.where(mask[:, None, None], x, 0.0)
    for conv in module.convs:
        length = (length + 1) // 2
        x = conv(x)
        x = torch.clamp(x * length_mask(length, x.shape[-1])[:, None, None], min=0.0)
    return module.projection(x.flatten(1, 2).transpose(1, 2))


@pytest.mark.parametrize("kind", SUBSAMPLINGS)
@pytest.mark.parametrize("lengths", [[31, 20, 1, 0], [31, 31]])
def test_subsampling_equals_the_formula(kind, lengths):
    torch.manual_seed(0)
    module, length = Subsampling(20, 8, kind, 6, last_channels=4), torch.tensor(lengths)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)  # biases that are not 0 would show in the padding
    x = torch.randn(len(lengths), 20, 31, requires_grad=True)
    ours, theirs = module(x, length)[0], plain_subsampling(module, x, length)
    weights = torch.randn_like(ours)
    own = torch.autograd.grad((ours * weights).sum(), [x, *module.parameters()])
    plain = torch.autograd.grad((theirs * weights).sum(), [x, *module.parameters()])
    torch.testing.assert_close([ours, *own], [theirs, *plain], rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", SUBSAMPLINGS)
def test_fewer_channels_at_the_last_convolution_leave_shapes_alone(kind):
    model = small(subsampling=kind, subsampling_last_channels=2)
    last = list(model.subsampling.convs[-1].modules())[-1]
    assert last.out_channels == 2
    assert model.subsampling.projection.in_features == 2 * (3 if kind == "separable8" else 5)
    out, plain = (one(*batch([30, 17])) for one in (model, small(subsampling=kind)))
    assert out["log_probs"].shape == plain["log_probs"].shape
    assert torch.isfinite(out["log_probs"]).all()


def test_posteriors_are_normalized_and_lengths_agree():
    model = small(intermediate_layers=(1, 2))
    x, lengths = batch([30, 17])
    out = model(x, lengths, tokens="not used")
    assert out["log_probs"].shape == (2, 8, 7)
    assert out["intermediate_log_probs"].shape == (2, 2, 8, 7)
    assert torch.equal(out["log_probs_length"], model.output_lengths(lengths))
    for name in ("log_probs", "intermediate_log_probs"):
        sums = out[name].exp().sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))
    assert "intermediate_log_probs" not in small()(x, lengths)


@pytest.mark.parametrize(("positions", "norm"), list(itertools.product(POSITIONS, NORMS)))
def test_the_gradient_reaches_every_parameter(positions, norm):
    model = small(
        positions=positions, norm=norm, intermediate_layers=(1, 2), self_conditioned=True, stochastic_depth=0.1
    )
    out = model(*batch([40, 33, 21, 40]))
    target = torch.randn(out["log_probs"].shape)
    (out["log_probs"] * target).sum().backward()
    for name, p in model.named_parameters():
        # A constant before a norm over time changes nothing.
        idle = name.endswith("depthwise.bias") and norm == "batch"
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        assert idle or float(p.grad.abs().max()) > 1e-6, name


@pytest.mark.parametrize("positions", POSITIONS)
def test_empty_utterances_give_no_nan(positions):
    model = small(positions=positions)
    x, _ = batch([12, 12])
    out = model(x, torch.tensor([12, 0]))
    out["log_probs"].sum().backward()
    assert out["log_probs_length"].tolist() == [3, 0]
    assert torch.isfinite(out["log_probs"]).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    empty = model(x[:, :, :0], torch.tensor([0, 0]))
    assert torch.isfinite(empty["log_probs"]).all()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [1, 7, 31])
@pytest.mark.parametrize("n_frames", [1, 3, 16, 40])
def test_the_convolution_over_time_equals_the_plain_one(n_frames, size, training):
    """Output and gradients; it is computed as products of matrices, or in another order of memory."""
    torch.manual_seed(0)
    module = Convolution(12, size, "layer", 0.0).double().train(training)
    x = torch.randn(2, n_frames, 12, dtype=torch.float64).transpose(1, 2)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = module._over_time(a), module.depthwise(b)
    weights = torch.randn_like(ours)
    own = torch.autograd.grad((ours * weights).sum(), [a, *module.depthwise.parameters()])
    plain = torch.autograd.grad((theirs * weights).sum(), [b, *module.depthwise.parameters()])
    torch.testing.assert_close([ours, *own], [theirs, *plain], rtol=0, atol=1e-12)


def test_the_convolution_over_time_keeps_half_precision():
    torch.manual_seed(0)
    module, x = Convolution(12, 7, "layer", 0.0), torch.randn(2, 40, 12).transpose(1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        y = module._over_time(x.bfloat16())
    y.float().square().sum().backward()
    assert y.dtype == torch.bfloat16
    assert module.depthwise.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.float(), module.depthwise(x), rtol=0, atol=2e-2)


def test_norms_without_padding_are_those_of_torch():
    torch.manual_seed(0)
    x, length = torch.randn(3, 12, 9), torch.tensor([9, 9, 9])
    for ours, theirs in ((MaskedGroupNorm(3, 12), nn.GroupNorm(3, 12)), (MaskedGroupNorm(1, 12), nn.GroupNorm(1, 12))):
        nn.init.normal_(theirs.weight)
        nn.init.normal_(theirs.bias)
        ours.load_state_dict(theirs.state_dict())
        torch.testing.assert_close(ours(x, length), theirs(x))
    norm = FrameNorm(12)
    torch.testing.assert_close(norm(x, length), nn.LayerNorm(12)(x.transpose(1, 2)).transpose(1, 2))


@pytest.mark.parametrize("norm", [MaskedGroupNorm(3, 12), FrameNorm(12)])
def test_norms_are_blind_to_padding(norm):
    x, length = torch.randn(2, 12, 9), torch.tensor([9, 4])
    y = norm(x, length)
    torch.testing.assert_close(y[1:, :, :4], norm(x[1:, :, :4], length[1:]))
    assert not y[1, :, 4:].any()


def test_stochastic_depth_skips_whole_utterances():
    torch.manual_seed(0)
    block = Block(8, 2, 12, 3, "none", "layer", 0.0, 0.0, drop_path=0.5).train()
    x, length = torch.randn(40, 6, 8), torch.full((40,), 6)
    mask = torch.ones(40, 1, 1, 6, dtype=torch.bool)
    out = block(x, length, mask)
    y = x + 0.5 * 2 * block.feed_forward1(x)
    y = y + 2 * block.attention(block.attention_norm(y), mask)
    y = y + 2 * block.convolution(y, length)
    y = block.out_norm(y + 0.5 * 2 * block.feed_forward2(y))
    skipped = (out - block.out_norm(x)).abs().amax(dim=(1, 2)) < 1e-5
    kept = (out - y).abs().amax(dim=(1, 2)) < 1e-5
    assert torch.equal(skipped, ~kept)
    assert 8 < int(skipped.sum()) < 32
    block.eval()
    torch.testing.assert_close(block(x, length, mask), block(x, length, mask))
    depths = [b.drop_path for b in small(stochastic_depth=0.3).blocks]
    assert depths == pytest.approx([0.1, 0.2, 0.3])


@torch.no_grad()
def test_self_conditioning_adds_the_projected_posteriors():
    model = small(intermediate_layers=(2,), self_conditioned=True).eval()
    x, lengths = batch([40])
    plain = small(intermediate_layers=(2,)).eval()
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("condition.")})
    seen = []
    handle = model.blocks[2].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    out = model(x, lengths)
    handle.remove()
    reference = []
    plain.blocks[1].register_forward_hook(lambda module, inputs, output: reference.append(output))
    expected = plain(x, lengths)
    torch.testing.assert_close(out["intermediate_log_probs"], expected["intermediate_log_probs"])
    fed_back = model.condition(expected["intermediate_log_probs"][0].exp())
    torch.testing.assert_close(seen[0], reference[0] + fed_back)


def test_mistakes_are_refused():
    cases = [
        ({"width": 15}, "width: 15 cannot be shared among 2 heads"),
        ({"kernel_size": 4}, "kernel_size: 4 is even"),
        ({"intermediate_layers": (1, 3)}, r"intermediate_layers: \[3\] are not before the last of 3"),
        ({"intermediate_layers": (1, 1)}, "names a layer twice"),
        ({"self_conditioned": True}, "self_conditioned: needs intermediate_layers"),
    ]
    for arguments, message in cases:
        with pytest.raises(ConfigError, match=message):
            small(**arguments)


def test_intermediate_loss_is_the_mean_over_the_layers():
    generator = torch.Generator().manual_seed(0)
    log_probs = torch.randn(3, 2, 12, 7, generator=generator).log_softmax(-1).requires_grad_()
    targets = {
        "log_probs_length": torch.tensor([12, 9]),
        "tokens": torch.tensor([[1, 2, 2, 6], [5, 4, 0, 0]]),
        "tokens_length": torch.tensor([4, 2]),
        "utterance_id": ["a", "b"],
        "text": ["abbf", "ed"],
    }
    loss = InterCTC()(intermediate_log_probs=log_probs, log_probs="not used", **targets)
    layers = [CTCLoss()(log_probs=layer, **targets) for layer in log_probs]
    expected = sum(mean.total / mean.count for mean in layers) / 3
    torch.testing.assert_close(loss.total / loss.count, expected)
    loss.total.backward()
    assert all(bool(gradient.any()) for gradient in log_probs.grad)


def test_intermediate_loss_keeps_ctcs_checks():
    log_probs = torch.zeros(2, 1, 4, 3).log_softmax(-1)
    targets = {"log_probs_length": torch.tensor([4]), "tokens_length": torch.tensor([2]), "utterance_id": ["odd"]}
    with pytest.raises(DataError, match="utterance 'odd': token id 9"):
        InterCTC()(intermediate_log_probs=log_probs, tokens=torch.tensor([[1, 9]]), **targets)
    with pytest.raises(ConfigError, match="intermediate_layers"):
        InterCTC()(tokens=torch.tensor([[1, 1]]), **targets)
    loss = InterCTC()(intermediate_log_probs=log_probs, tokens=torch.tensor([[1, 2]]), text=[None], **targets)
    assert float(loss.count) == 0

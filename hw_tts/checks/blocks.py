"""What blocks of acoustic models keep to: modules from padded sequences to padded sequences."""

import torch
from torch import Tensor, nn

from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close
from hw_base.checks.parameters import without_gradient
from hw_tts.models.blocks.fft_block import FFTStack
from hw_tts.models.blocks.variance import VariancePredictor

BLOCK: Contract[Candidate] = Contract("block")

_WIDTH = 8
_LENGTHS = [9, 4, 1]


def check_block(candidate: Candidate) -> list[Outcome]:
    """All properties of a block: called with ``x`` (B, T, D) and a mask of valid positions, bool, (B, T)."""
    return BLOCK.check(candidate)


def _block(candidate: Candidate) -> nn.Module:
    module: nn.Module = candidate.build(width=_WIDTH)
    return module


def _batch(extra: int = 0, padding: float = 0.0) -> tuple[Tensor, Tensor]:
    """``x`` and mask of three utterances, with ``extra`` more positions of padding than needed."""
    generator = torch.Generator().manual_seed(0)
    n_positions = max(_LENGTHS) + extra
    x = torch.full((len(_LENGTHS), n_positions, _WIDTH), padding)
    for row, n in zip(x, _LENGTHS, strict=True):
        row[:n] = torch.randn(n, _WIDTH, generator=generator)
    return x, torch.arange(n_positions) < torch.tensor(_LENGTHS)[:, None]


@BLOCK.property("batch, time and width are swapped, or a convolution without padding shortens the sequence")
def every_position_gives_one_output(candidate: Candidate) -> None:
    x, mask = _batch()
    out = _block(candidate).eval()(x, mask)
    shapes = (tuple(x.shape), tuple(mask.shape))
    expect(tuple(out.shape) in shapes, f"(B, T, D) = {shapes[0]} or (B, T) = {shapes[1]}", tuple(out.shape))
    expect(torch.isfinite(out).all(), "finite outputs", "NaN or infinity")


@BLOCK.property("attention or a convolution sees the padding: no mask, or a mask on the wrong axis")
def an_utterance_alone_equals_itself_in_a_padded_batch(candidate: Candidate) -> None:
    block = _block(candidate).eval()
    x, mask = _batch(extra=5, padding=7.0)
    with torch.no_grad():
        together = block(x, mask)
        for i, n in enumerate(_LENGTHS):
            alone = block(x[i : i + 1, :n], mask[i : i + 1, :n])
            expect_close(together[i, :n], alone[0], f"utterance of {n} positions", 1e-5)


@BLOCK.property("the output is not masked, so that the next layer or the loss sees the padding")
def the_padding_is_zero(candidate: Candidate) -> None:
    x, mask = _batch(extra=2, padding=7.0)
    with torch.no_grad():
        rest = _block(candidate).eval()(x, mask)[~mask]
    expect(not rest.any(), "zeros in the padding", rest.flatten()[:5].tolist())


@BLOCK.property("each position is treated on its own: no attention, or a convolution of one")
def positions_see_their_neighbors(candidate: Candidate) -> None:
    block = _block(candidate).eval()
    x, mask = _batch()
    changed = x.clone()
    changed[0, 4] += 1.0
    with torch.no_grad():
        before, after = block(x, mask)[0], block(changed, mask)[0]
    for at in (3, 5):
        expect(not torch.equal(before[at], after[at]), "position 4 to be seen by its neighbors", f"{at} is unchanged")


@BLOCK.property("a reshape where a transpose is meant, or a convolution over the width instead of time")
def a_position_is_changed_most_by_its_own_input(candidate: Candidate) -> None:
    block = _block(candidate).eval()
    x, mask = _batch()
    x = x.requires_grad_()
    out = block(x, mask)[0]
    for at in (2, 6):
        (gradient,) = torch.autograd.grad(out[at].square().sum(), x, retain_graph=True)
        weight = gradient[0].abs().sum(-1)
        expect(weight.any(), f"output {at} to depend on the input", "no gradient")
        center = float((weight * torch.arange(len(weight))).sum() / weight.sum())
        expect(abs(center - at) <= 2.0, f"output {at} to depend on the input near it", f"around position {center:.1f}")


@BLOCK.property("dropout is active in evaluation (F.dropout without training=self.training)")
def evaluation_draws_nothing_at_random(candidate: Candidate) -> None:
    block = _block(candidate).eval()
    x, mask = _batch()
    with torch.no_grad():
        expect(torch.equal(block(x, mask), block(x, mask)), "equal outputs at the second call", "other ones")


@BLOCK.property("a layer that is made and not used, a list that should be a ModuleList, or a detach()")
def a_gradient_reaches_every_parameter(candidate: Candidate) -> None:
    block = _block(candidate).train()
    x, mask = _batch()
    out = block(x, mask)
    # Not a plain sum, of which a layer norm's output has a constant one.
    (out * torch.linspace(-1.0, 2.0, out.numel()).view_as(out)).sum().backward()
    parameters = dict(block.named_parameters())
    expect(bool(parameters), "parameters", "none")
    # What is added to all keys does not change a softmax over them, so the gradient of a bias of keys is zero.
    none = [n for n in without_gradient(block) if parameters[n].grad is None or parameters[n].dim() > 1]
    expect(not none, "a gradient for every parameter", f"none for {', '.join(none[:5])}")


declare(
    "blocks",
    check_block,
    lambda target: isinstance(target, type) and issubclass(target, nn.Module),
    "a module called with x (B, T, D) and a mask (B, T)",
    parts={
        "FFTStack": (FFTStack, {"n_layers": 1, "n_heads": 2, "hidden": 12, "kernel_sizes": [3, 1]}),
        "VariancePredictor": (VariancePredictor, {"hidden": 12, "kernel_size": 3, "dropout": 0.2}),
    },
)

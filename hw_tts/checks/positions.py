"""What positional encodings keep to."""

import torch
from torch import Tensor

from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close
from hw_base.checks.contract import NotClaimedError
from hw_base.errors import DataError
from hw_tts.models.blocks.positions import LearnedPositions, SinusoidalPositions

POSITIONS: Contract[Candidate] = Contract("positions")

_N_POSITIONS = 40


def check_positions(candidate: Candidate) -> list[Outcome]:
    """All properties of what adds positions to ``x`` (B, T, D), called with its lengths (B,)."""
    return POSITIONS.check(candidate)


def _encodings(candidate: Candidate, n_frames: int, width: int = 8) -> Tensor:
    """What is added to zeros, (T, D)."""
    module = candidate.build(width=width, n_positions=_N_POSITIONS)
    with torch.no_grad():
        added: Tensor = module(torch.zeros(1, n_frames, width), torch.tensor([n_frames]))[0]
    expect(added.shape == (n_frames, width), f"shape {(n_frames, width)}", tuple(added.shape))
    return added


@POSITIONS.property("sines and cosines are laid out for even widths only")
def odd_widths_work(candidate: Candidate) -> None:
    for width in (1, 3, 7, 8):
        expect(torch.isfinite(_encodings(candidate, 9, width)).all(), f"finite positions of width {width}", "NaN")


@POSITIONS.property("an index is rounded or clamped, or the first two positions are the same (off by one)")
def positions_differ_from_each_other(candidate: Candidate) -> None:
    added = _encodings(candidate, _N_POSITIONS)
    gaps = torch.cdist(added, added) + 1e6 * torch.eye(len(added))
    nearest = float(gaps.min())
    place = [int(i) for i in torch.unravel_index(gaps.argmin(), gaps.shape)]
    expect(nearest > 1e-3, "different vectors for all positions", f"{place} a distance of {nearest:.2g} apart")


@POSITIONS.property("positions depend on the length of the batch: they are counted from the end, or scaled by T")
def a_longer_sequence_begins_like_a_shorter_one(candidate: Candidate) -> None:
    expect_close(_encodings(candidate, _N_POSITIONS)[:11], _encodings(candidate, 11), "the first 11 positions", 1e-6)


@POSITIONS.property("positions are multiplied, or the input is scaled, normalized or used as an index")
def positions_are_added_to_the_input(candidate: Candidate) -> None:
    module = candidate.build(width=8, n_positions=_N_POSITIONS)
    x = torch.randn(3, 12, 8)
    length = torch.tensor([12, 5, 1])
    with torch.no_grad():
        found = module(x, length)
    expected = (x + _encodings(candidate, 12)).to(found.dtype)
    expect_close(found, expected, "the input plus the same positions in each row", 1e-5)


@POSITIONS.property("a table ends, or an index wraps around, without an error")
def lengths_past_the_maximum_work_or_are_refused(candidate: Candidate) -> None:
    try:
        added = _encodings(candidate, 3 * _N_POSITIONS)
    except DataError:
        return
    expect(torch.isfinite(added).all(), "finite positions", "NaN or infinity")
    gaps = torch.cdist(added, added) + 1e6 * torch.eye(len(added))
    expect(float(gaps.min()) > 1e-5, "different vectors past the maximum too", "positions that repeat")


@POSITIONS.property("padding changes the positions of valid frames")
def padding_has_no_influence(candidate: Candidate) -> None:
    module = candidate.build(width=8, n_positions=_N_POSITIONS)
    for n_frames, padding in ((10, 5), (2 * _N_POSITIONS, 17)):
        length = torch.tensor([n_frames])
        try:
            with torch.no_grad():
                alone = module(torch.zeros(1, n_frames, 8), length)
                padded = module(torch.zeros(1, n_frames + padding, 8), length)
        except DataError:
            continue
        expect_close(padded[:, :n_frames], alone, f"{n_frames} positions with {padding} frames of padding", 1e-5)


@POSITIONS.property("sine and cosine of different frequencies are paired, or the frequencies are wrong")
def products_depend_on_the_distance_alone(candidate: Candidate) -> None:
    module = candidate.build(width=8, n_positions=_N_POSITIONS)
    if any(True for _ in module.parameters()):
        raise NotClaimedError("its positions are learned")
    added = _encodings(candidate, _N_POSITIONS).double()
    products = added @ added.T
    for shift in (0, 1, 5):
        line = products.diagonal(shift)
        expect_close(line, line[:1].expand_as(line), f"products of positions {shift} apart", 1e-3)


declare(
    "positions",
    check_positions,
    lambda target: isinstance(target, type) and issubclass(target, torch.nn.Module),
    "a module called with x (B, T, D) and lengths (B,)",
    parts={"SinusoidalPositions": (SinusoidalPositions, {}), "LearnedPositions": (LearnedPositions, {})},
)

"""What relative positions keep to: encodings of offsets, and the shift that brings their scores to the keys."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from hw_asr.models.conformer.positions import RelativePositions
from hw_base.checks import Candidate, Contract, Outcome, declare, expect, expect_close
from hw_base.nn.attention_training import relative_shift

OFFSETS: Contract[Candidate] = Contract("relative positions")
SHIFT: Contract[Candidate] = Contract("relative shift")


def check_offsets(candidate: Candidate) -> list[Outcome]:
    """All properties of what gives, for ``x`` (B, T, D), encodings of the offsets T - 1 to -(T - 1): (2 T - 1, D)."""
    return OFFSETS.check(candidate)


def check_shift(candidate: Candidate) -> list[Outcome]:
    """All properties of what takes scores of n queries for offsets, (B, H, n, n + T - 1), to keys, (B, H, n, T)."""
    return SHIFT.check(candidate)


def _encodings(candidate: Candidate, n_frames: int, width: int = 8) -> Tensor:
    encodings: Tensor = candidate.build(width=width)(torch.zeros(2, n_frames, width))
    shape = (2 * n_frames - 1, width)
    expect(tuple(encodings.shape) == shape, f"shape {shape} for {n_frames} frames", tuple(encodings.shape))
    return encodings.detach()


@OFFSETS.property("T or 2 T rows instead of 2 T - 1, or sines and cosines for even widths only")
def there_is_one_row_for_each_offset(candidate: Candidate) -> None:
    for n_frames, width in itertools.product((1, 2, 9), (1, 3, 7, 8)):
        expect(torch.isfinite(_encodings(candidate, n_frames, width)).all(), f"finite rows of width {width}", "NaN")


@OFFSETS.property("rows are counted from the first one, not from the middle, so that they move with the length")
def an_offset_has_one_encoding_at_every_length(candidate: Candidate) -> None:
    long, short = _encodings(candidate, 20), _encodings(candidate, 7)
    expect_close(long[13:26], short, "offsets 6 to -6 of 20 frames, as of 7", 1e-6)


@OFFSETS.property("the absolute value of the offset is taken, or an index is clamped")
def offsets_differ_from_each_other(candidate: Candidate) -> None:
    rows = _encodings(candidate, 20)
    gaps = torch.cdist(rows, rows) + 1e6 * torch.eye(len(rows))
    place = [19 - int(i) for i in torch.unravel_index(gaps.argmin(), gaps.shape)]
    expect(float(gaps.min()) > 1e-3, "different rows for all offsets", f"the same for {place}")


@OFFSETS.property("offsets run upwards: the first row is that of the farthest key ahead, not of the one behind")
def the_first_row_is_the_farthest_key_behind(candidate: Candidate) -> None:
    if candidate.build(width=8).state_dict():  # learned: any row may stand for any offset
        return
    rows = _encodings(candidate, 4)
    # A sine of the offset in radians is among the columns: positive where the key lies behind.
    expected = torch.tensor([3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0]).sin()
    nearest = float((rows - expected[:, None]).abs().amax(0).min())
    expect(nearest < 1e-4, "a column with the sines of 3, 2, 1, 0, -1, -2, -3", rows[:, 0].tolist())


@SHIFT.property("a row too many or too few is cut off, or rows are shifted the other way (off by one)")
def every_key_gets_the_score_of_its_offset(candidate: Candidate) -> None:
    shift: Callable[[Tensor], Tensor] = candidate.build()
    generator = torch.Generator().manual_seed(0)
    for n, n_keys in ((1, 1), (4, 4), (3, 7), (1, 5)):
        scores = torch.randn(2, 3, n, n + n_keys - 1, generator=generator)
        found = shift(scores)
        shape = (2, 3, n, n_keys)
        expect(tuple(found.shape) == shape, f"shape {shape}", tuple(found.shape))
        expected = torch.empty(shape)
        for i, j in itertools.product(range(n), range(n_keys)):
            expected[..., i, j] = scores[..., i, n - 1 - i + j]
        expect_close(found, expected, f"{n} queries, {n_keys} keys", 0.0)


@SHIFT.property("a view of the scores is changed in place, or its gradient is that of a copy")
def the_gradient_reaches_every_score_that_is_used(candidate: Candidate) -> None:
    scores = torch.randn(1, 1, 3, 5, requires_grad=True)
    candidate.build()(scores).sum().backward()
    used = torch.zeros(1, 1, 3, 5)
    for i, j in itertools.product(range(3), range(3)):
        used[..., i, 2 - i + j] += 1
    expect_close(scores.grad if scores.grad is not None else 0 * used, used, "a gradient of 1 where it is used", 0.0)


def _shift() -> Callable[[Tensor], Tensor]:
    return relative_shift


declare("relative_positions", check_offsets, torch.nn.Module, parts={"RelativePositions": (RelativePositions, {})})
declare(
    "relative_shifts", check_shift, callable, "a class or function that shifts", parts={"relative_shift": (_shift, {})}
)

"""Wrong copies of relative positions and of their shift: each is caught, by the property that it breaks."""

import pytest
import torch

from hw_asr.checks.positions import OFFSETS, SHIFT
from hw_asr.models.conformer.positions import RelativePositions
from hw_base.checks import Candidate, broken
from hw_base.nn.attention_training import relative_shift


class OneRowTooMany(RelativePositions):
    def forward(self, x):
        return torch.cat([super().forward(x), torch.zeros(1, self.width)])


class CountsFromTheFirstRow(RelativePositions):
    def forward(self, x):
        rows = super().forward(x)
        return rows.roll(len(rows) // 2, 0)


class AbsoluteOffsets(RelativePositions):
    def forward(self, x):
        half = super().forward(x)[: x.shape[1]]
        return torch.cat([half, half[:-1].flip(0)])


class Upwards(RelativePositions):
    def forward(self, x):
        return super().forward(x).flip(0)


class Shift:
    def __init__(self) -> None:
        pass

    def __call__(self, scores):
        return relative_shift(scores)


class TheOtherWay(Shift):
    def __call__(self, scores):
        return relative_shift(scores.flip(3).contiguous())


class OneKeyLate(Shift):
    def __call__(self, scores):
        return relative_shift(scores).roll(1, 3)


class Detached(Shift):
    def __call__(self, scores):
        return relative_shift(scores.detach()) + 0 * scores.sum()


POSITIONS = {
    OneRowTooMany: "there is one row for each offset",
    CountsFromTheFirstRow: "an offset has one encoding at every length",
    AbsoluteOffsets: "offsets differ from each other",
    Upwards: "the first row is the farthest key behind",
}
SHIFTS = {
    TheOtherWay: "every key gets the score of its offset",
    OneKeyLate: "every key gets the score of its offset",
    Detached: "the gradient reaches every score that is used",
}


@pytest.mark.parametrize(("mutant", "name"), POSITIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_wrong_relative_positions_are_caught(mutant, name):
    assert OFFSETS[name].check(Candidate(mutant.__name__, mutant)).holds is False


@pytest.mark.parametrize(("mutant", "name"), SHIFTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_shift_is_caught(mutant, name):
    assert broken(SHIFT.check(Candidate("Shift", Shift))) == []
    assert SHIFT[name].check(Candidate(mutant.__name__, mutant)).holds is False

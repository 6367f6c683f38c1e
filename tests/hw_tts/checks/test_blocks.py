"""Wrong copies of a block: each is caught, by the property that it breaks."""

import pytest
import torch
from torch.nn import functional as F

from hw_base.checks import Candidate, broken
from hw_tts.checks.blocks import BLOCK
from hw_tts.models.blocks.fft_block import FFTStack

SIZES = {"n_layers": 1, "n_heads": 2, "hidden": 12, "kernel_sizes": [3, 1]}


class Shortens(FFTStack):
    def forward(self, x, mask):
        return super().forward(x, mask)[:, 1:]


class SeesThePadding(FFTStack):
    def forward(self, x, mask):
        return (super().forward(x, mask) + 0.01 * x.mean((1, 2), keepdim=True)) * mask[..., None]


class ColorsThePadding(FFTStack):
    def forward(self, x, mask):
        return super().forward(x, mask) + 0.1 * ~mask[..., None]


class EachPositionAlone(FFTStack):
    def forward(self, x, mask):
        rows = super().forward(x.reshape(-1, 1, x.shape[2]), mask.reshape(-1, 1))
        return rows.view_as(x)


class Reversed(FFTStack):
    def forward(self, x, mask):
        out = super().forward(x, mask)
        for row, n in zip(out, mask.sum(1).tolist(), strict=True):
            row[:n] = row[:n].flip(0).clone()
        return out


class DropsInEvaluation(FFTStack):
    def forward(self, x, mask):
        return F.dropout(super().forward(x, mask), 0.1)


class HasAnUnusedLayer(FFTStack):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.unused = torch.nn.Linear(2, 2)


MUTANTS = {
    Shortens: "every position gives one output",
    SeesThePadding: "an utterance alone equals itself in a padded batch",
    ColorsThePadding: "the padding is zero",
    EachPositionAlone: "positions see their neighbors",
    Reversed: "a position is changed most by its own input",
    DropsInEvaluation: "evaluation draws nothing at random",
    HasAnUnusedLayer: "a gradient reaches every parameter",
}


def test_the_copied_block_is_right():
    assert broken(BLOCK.check(Candidate("FFTStack", FFTStack, SIZES))) == []


@pytest.mark.parametrize(("mutant", "name"), MUTANTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_block_is_caught(mutant, name):
    assert BLOCK[name].check(Candidate(mutant.__name__, mutant, SIZES)).holds is False


def test_every_property_has_a_wrong_copy():
    assert set(MUTANTS.values()) == {one.name for one in BLOCK.properties}

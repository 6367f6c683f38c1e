import math

import pytest
import torch

from hw_base.errors import DataError
from hw_tts.models.blocks.positions import LearnedPositions, SinusoidalPositions, make_positions


@pytest.mark.parametrize("start", [0, 1])
def test_sinusoids(start):
    out = SinusoidalPositions(6, start)(torch.ones(1, 5, 6), torch.tensor([5]))
    for t in range(5):
        for i in range(3):
            angle = (t + start) / 10000 ** (2 * i / 6)
            assert out[0, t, 2 * i].item() == pytest.approx(1 + math.sin(angle), abs=1e-6)
            assert out[0, t, 2 * i + 1].item() == pytest.approx(1 + math.cos(angle), abs=1e-6)


def test_sinusoids_have_no_end():
    assert SinusoidalPositions(4)(torch.zeros(1, 20000, 4), torch.tensor([20000])).isfinite().all()


def test_a_table_is_used_row_by_row():
    positions = LearnedPositions(4, 7)
    out = positions(torch.zeros(2, 7, 4), torch.tensor([7, 2]))
    assert torch.equal(out, positions.table.expand(2, 7, 4))


def test_beyond_the_table_each_utterance_is_stretched_over_its_own_length():
    positions = LearnedPositions(1, 5)
    positions.table.data.copy_(torch.tensor([0.0, 10, 20, 30, 40])[:, None])
    out = positions(torch.zeros(3, 9, 1), torch.tensor([9, 3, 6]))[..., 0]
    assert out[0].tolist() == pytest.approx([0, 5, 10, 15, 20, 25, 30, 35, 40])
    assert out[1, :3].tolist() == [0, 10, 20]  # it fits: as without the long neighbor
    assert out[2, :6].tolist() == pytest.approx([0, 8, 16, 24, 32, 40], abs=1e-4)


def test_beyond_the_table_as_an_error():
    positions = make_positions("learned", 4, 7, "error", 0)
    positions(torch.zeros(1, 7, 4), torch.tensor([7]))
    with pytest.raises(DataError, match="sequence of 8 does not fit the model's table of 7"):
        positions(torch.zeros(1, 8, 4), torch.tensor([8]))

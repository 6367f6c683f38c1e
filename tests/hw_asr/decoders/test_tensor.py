import pytest
import torch

from hw_asr.decoders.scoring.fusion import FusionOptions, Weights, build_fusion
from hw_asr.decoders.scoring.options import SearchOptions
from hw_asr.decoders.tensor.beam import Beam
from hw_asr.decoders.tensor.bonus import TensorBonus
from hw_asr.decoders.tensor.layout import lay_out
from hw_asr.text_encoders.characters import CharTextEncoder

CPU = torch.device("cpu")


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(("K", "C"), [(1, 1), (1, 28), (7, 3), (50, 10), (3, 28)])
def test_every_extension_has_a_place_of_its_own_or_none(K, C, ordered):
    layout = lay_out(K, C, ordered, CPU)
    place = layout.place.view(C + 1, K + 1)
    assert not place[:, 0].any()
    assert not place[C].any()
    tokens, slots = place.nonzero().unbind(1)
    taken = place[tokens, slots]
    assert taken.sort().values.tolist() == list(range(K + 1, 1 + len(layout.source)))
    assert torch.equal(layout.source[taken - 1], slots - 1)
    assert torch.equal(layout.column[taken - 1], tokens)
    assert layout.source[:K].tolist() == list(range(K))
    assert layout.column[:K].tolist() == [C] * K
    for i in range(K):
        for j in range(C):
            needed = not ordered or (i + 1) * j - 1 < K
            assert place[j, i + 1] > 0 or not needed


def megabytes(B, K, word_score):
    """All tensors of a beam and of its bonuses, each storage once."""
    encoder = CharTextEncoder()
    bonus = TensorBonus(build_fusion(FusionOptions(weights=Weights(0.0, word_score, 0.0)), encoder), CPU)
    beam = Beam(SearchOptions(K, 10, 20.0, 1.0, 1), bonus, lay_out(K, 10, bonus.is_none, CPU), B)
    owners = [beam, *([beam.bonus] if beam.bonus else [])]
    storages = {x.untyped_storage() for one in owners for x in vars(one).values() if isinstance(x, torch.Tensor)}
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values()) / 1e6


@pytest.mark.parametrize("word_score", [0.0, 1.0])
def test_memory_of_the_beams_grows_with_their_number_and_size_alone(word_score):
    sizes = [megabytes(B, K, word_score) for B, K in ((4, 200), (8, 200), (4, 400), (4, 800))]
    assert [size / sizes[0] for size in sizes] == pytest.approx([1.0, 2.0, 2.0, 4.0], rel=0.1)
    assert megabytes(1, 128, word_score) < sizes[0]  # where all pairs are compared

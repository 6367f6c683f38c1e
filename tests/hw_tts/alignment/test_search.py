"""The alignment search against every path there is, against public numbers, and at the ends of its domain."""

import itertools

import pytest
import torch

from hw_tts.alignment.search import search_durations, search_path, search_tokens
from tests.conftest import SHARED

ENGINES = ["numba", "tensor"]


def paths(T, L):
    """Every monotonic path through T frames that visits all of L tokens: the token of each frame."""
    for cuts in itertools.combinations(range(1, T), L - 1):
        ends = [*cuts, T]
        yield [next(x for x, end in enumerate(ends) if y < end) for y in range(T)]


def best_by_exhaustion(scores):
    T, L = scores.shape
    return max(paths(T, L), key=lambda path: sum(float(scores[y, x]) for y, x in enumerate(path)))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_path_is_the_best_of_all(engine):
    generator = torch.Generator().manual_seed(0)
    spectrogram_length = torch.tensor([8, 7, 5, 4, 8, 1, 3])
    tokens_length = torch.tensor([3, 5, 5, 1, 4, 1, 2])
    scores = torch.randn(7, 9, 6, generator=generator) * 3
    found = search_tokens(scores, spectrogram_length, tokens_length, engine)
    for row, T, L, utterance in zip(found, spectrogram_length, tokens_length, scores, strict=True):
        assert row[:T].tolist() == best_by_exhaustion(utterance[:T, :L])
        assert (row[T:] == -1).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_to_the_public_search(engine):
    file = SHARED / "reference" / "mb_istft_vits2_small.pt"
    if not file.is_file():
        pytest.skip(f"no reference numbers at {file}")
    mas = torch.load(file, weights_only=True)["outputs"]["mas"]
    mask = mas["mask"]
    path = search_path(mas["neg_cent"], mask[:, :, 0].sum(1).long(), mask[:, 0].sum(1).long(), engine)
    assert torch.equal(path, mas["path"])


def public_search(scores, T, L):
    """The published loop, in float32, one utterance: the token of each frame."""
    value = scores.clone()
    for y in range(T):
        for x in range(max(0, L + y - T), min(L, y + 1)):
            stay = value[y - 1, x] if x != y else torch.tensor(-1e9)
            move = value[y - 1, x - 1] if x > 0 else torch.tensor(0.0 if y == 0 else -1e9)
            value[y, x] += torch.maximum(stay, move)
    tokens, x = [0] * T, L - 1
    for y in range(T - 1, -1, -1):
        tokens[y] = x
        if x != 0 and (x == y or value[y - 1, x] < value[y - 1, x - 1]):
            x -= 1
    return tokens


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("levels", [1, 3, 100_000])
def test_ties_and_sums_are_those_of_the_public_search(engine, levels):
    generator = torch.Generator().manual_seed(levels)
    scores = -torch.randint(0, levels, (6, 40, 17), generator=generator).float() / 7
    spectrogram_length, tokens_length = torch.tensor([40, 33, 17, 40, 25, 18]), torch.tensor([17, 9, 17, 1, 2, 17])
    found = search_tokens(scores, spectrogram_length, tokens_length, engine)
    for row, T, L, utterance in zip(found, spectrogram_length.tolist(), tokens_length.tolist(), scores, strict=True):
        assert row[:T].tolist() == public_search(utterance, T, L)


@pytest.mark.parametrize("engine", ENGINES)
def test_path_and_durations_tell_the_same(engine):
    scores = torch.randn(4, 30, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    spectrogram_length, tokens_length = torch.tensor([30, 20, 12, 5]), torch.tensor([12, 3, 12, 1])
    path = search_path(scores, spectrogram_length, tokens_length, engine)
    durations = search_durations(scores, spectrogram_length, tokens_length, engine)
    assert path.dtype == scores.dtype
    assert durations.dtype == torch.int64
    assert torch.equal(path.sum(1).long(), durations)
    assert torch.equal(durations.sum(1), spectrogram_length)
    for row, L in zip(durations, tokens_length, strict=True):
        assert (row[:L] >= 1).all()
        assert (row[L:] == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_ends_of_the_domain(engine):
    scores = torch.zeros(4, 3, 5)
    durations = search_durations(scores, torch.tensor([3, 0, 3, 2]), torch.tensor([0, 2, 5, 1]), engine)
    assert durations.tolist() == [[0] * 5, [0] * 5, [1, 1, 1, 0, 0], [2, 0, 0, 0, 0]]
    for shape in [(0, 3, 5), (2, 0, 5), (2, 3, 0)]:
        lengths = torch.full((shape[0],), shape[1]), torch.full((shape[0],), shape[2])
        assert search_path(torch.zeros(shape), *lengths, engine).shape == shape
        assert search_durations(torch.zeros(shape), *lengths, engine).sum() == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_forbidden_cells_and_padding_do_not_matter(engine):
    scores = torch.randn(2, 12, 6, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([12, 8]), torch.tensor([6, 4])
    plain = search_tokens(scores, *lengths, engine)
    dirty = scores.clone()
    dirty[1, 8:], dirty[1, :, 4:] = torch.nan, torch.inf
    assert torch.equal(search_tokens(dirty, *lengths, engine), plain)
    blocked = torch.full((1, 6, 3), -torch.inf)
    blocked[0, :, 0] = 0.0
    assert search_durations(blocked, torch.tensor([6]), torch.tensor([3]), engine).sum() == 6
    broken = torch.full((1, 6, 3), torch.nan)
    assert search_durations(broken, torch.tensor([6]), torch.tensor([3]), engine).sum() == 6


@pytest.mark.parametrize("engine", ENGINES)
def test_strided_and_half_precision_scores(engine):
    scores = torch.randn(2, 6, 20, generator=torch.Generator().manual_seed(3)).bfloat16().transpose(1, 2)
    lengths = torch.tensor([20, 15]), torch.tensor([6, 5])
    before = scores.clone()
    path = search_path(scores.requires_grad_(), *lengths, engine)
    assert path.dtype == torch.bfloat16
    assert not path.requires_grad
    assert torch.equal(scores, before)
    assert torch.equal(path.float(), search_path(scores.float(), *lengths, engine))


@pytest.mark.gpu
def test_on_a_gpu_without_synchronization():
    scores = torch.randn(8, 60, 20, generator=torch.Generator().manual_seed(4))
    lengths = torch.randint(30, 61, (8,)), torch.randint(5, 21, (8,))
    expected = search_durations(scores, *lengths, "numba")
    on_device = scores.cuda(), lengths[0].cuda(), lengths[1].cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = search_durations(*on_device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(found.cpu(), expected)

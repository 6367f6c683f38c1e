"""The length regulator and averages over durations against plain loops."""

import pytest
import torch

from hw_tts.models.blocks.regulator import LengthRegulator, average_by_duration, expand, frame_tokens


def by_loop(hidden, durations, T):
    out = hidden.new_zeros(hidden.shape[0], T, hidden.shape[2])
    for b, row in enumerate(durations.tolist()):
        vectors = [hidden[b, x] for x, n in enumerate(row) for _ in range(n)][:T]
        for t, vector in enumerate(vectors):
            out[b, t] = vector
    return out


DURATIONS = torch.tensor([[3, 0, 2, 1, 0], [0, 0, 7, 1, 4], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0]])


@pytest.mark.parametrize("max_frames", [None, 12, 15, 4, 0])
def test_equal_to_a_loop(max_frames):
    hidden = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
    expanded, frames = expand(hidden, DURATIONS, max_frames)
    T = 12 if max_frames is None else max_frames
    assert torch.equal(expanded, by_loop(hidden, DURATIONS, T))
    assert frames.tolist() == [min(n, T) for n in (6, 12, 1, 0)]
    assert torch.equal(LengthRegulator()(hidden, DURATIONS, max_frames)[0], expanded)


def test_batch_of_one_and_no_tokens():
    hidden = torch.randn(1, 3, 2)
    assert torch.equal(expand(hidden, torch.tensor([[0, 2, 0]]))[0], hidden[:, [1, 1]])
    expanded, frames = expand(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64), 3)
    assert expanded.shape == (2, 3, 4)
    assert frames.tolist() == [0, 0]


def test_half_precision_misplaces_nothing_beyond_256_frames():
    generator = torch.Generator().manual_seed(1)
    durations = torch.randint(0, 9, (3, 400), generator=generator)
    hidden = torch.randn(3, 400, 2, generator=generator).bfloat16()
    expanded, frames = expand(hidden, durations)
    assert expanded.dtype == torch.bfloat16
    assert frames.min() > 1024
    assert torch.equal(expanded, by_loop(hidden, durations, int(frames.max())))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(expand(hidden, durations)[0], expanded)


def test_gradient_counts_every_frame_also_in_half_precision():
    hidden = torch.randn(2, 3, 4, dtype=torch.bfloat16, requires_grad=True)
    durations = torch.tensor([[600, 0, 5], [1, 1000, 0]])
    expand(hidden, durations)[0].sum().backward()
    assert torch.equal(hidden.grad[:, :, 0].float(), durations.bfloat16().float())
    double = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 9, 2)
    short = torch.tensor([[2, 0, 3], [4, 4, 1]])
    expanded = expand(double, short, 9)[0]
    assert torch.equal(expanded, by_loop(double, short, 9))
    (expanded * weights).sum().backward()
    wanted = torch.zeros(2, 3, 2).double()
    for b, row in enumerate(frame_tokens(short, 9).tolist()):
        for t, x in enumerate(row):
            if x < 3:
                wanted[b, x] += weights[b, t]
    assert torch.allclose(double.grad, wanted)


def mean_by_loop(values, durations, voiced):
    means = torch.zeros(durations.shape)
    for b, row in enumerate(durations.tolist()):
        position = 0
        for x, n in enumerate(row):
            chosen = [
                float(v) for v, ok in zip(values[b, position : position + n], voiced[b, position:], strict=False) if ok
            ]
            means[b, x] = sum(chosen) / len(chosen) if chosen else 0.0
            position += n
    return means


@pytest.mark.parametrize("masked", [False, True])
def test_averages_equal_a_loop(masked):
    generator = torch.Generator().manual_seed(2)
    values = torch.rand(4, 12, generator=generator) * 300
    voiced = torch.rand(4, 12, generator=generator) > 0.4 if masked else torch.ones(4, 12, dtype=torch.bool)
    values[:, 6:] = torch.where(voiced[:, 6:], values[:, 6:], torch.nan)  # what does not count may be anything
    means = average_by_duration(values, DURATIONS, voiced if masked else None)
    assert means.dtype == torch.float32
    assert torch.allclose(means, mean_by_loop(values, DURATIONS, voiced), rtol=1e-6)
    assert (means[DURATIONS == 0] == 0).all()


def test_averages_are_exact_far_into_an_utterance():
    values = torch.full((1, 100_000), 1e4)
    values[0, -2:] = torch.tensor([0.125, 0.375])
    assert average_by_duration(values, torch.tensor([[99_998, 0, 2]])).tolist() == [[1e4, 0.0, 0.25]]


def test_durations_beyond_the_values_count_what_is_there():
    means = average_by_duration(torch.tensor([[1.0, 3.0, 5.0]]), torch.tensor([[2, 4, 3]]))
    assert means.tolist() == [[2.0, 5.0, 0.0]]


@pytest.mark.gpu
def test_no_synchronization_with_max_frames():
    hidden, durations = torch.randn(4, 5, 6).cuda(), DURATIONS.cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        expanded, _ = expand(hidden, durations, 12)
        average_by_duration(expanded[:, :, 0], durations)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(expanded.cpu(), by_loop(hidden.cpu(), DURATIONS, 12))

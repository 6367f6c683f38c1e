"""Learned alignments: the forward sum against all alignments one by one, the prior against scipy, padding, learning."""

import itertools
import math

import pytest
import torch
from torch import nn

from hw_base.registry import LOSSES
from hw_tts.alignment.search import search_durations, search_path
from hw_tts.losses.alignment import BinarizationLoss, ForwardSumLoss
from hw_tts.models.blocks.aligner import AlignmentEncoder, log_prior
from tests.hw_tts.alignment.test_search import paths


def batch(seed=0, B=4, T=40, L=11, D=6, F=8):
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden": torch.randn(B, L, D, generator=generator),
        "tokens_length": torch.tensor([L, 5, 1, 8][:B]),
        "spectrogram": torch.randn(B, F, T, generator=generator) * 2 - 5,
        "spectrogram_length": torch.tensor([T, 23, 9, 8][:B]),
    }


@pytest.mark.parametrize("scale", [1.0, 0.4])
def test_the_prior_is_beta_binomial(scale):
    betabinom = pytest.importorskip("scipy.stats").betabinom
    frames, tokens = torch.tensor([30, 17, 300, 4]), torch.tensor([9, 1, 60, 4])
    prior = log_prior(frames, tokens, 300, 60, scale)
    for row, T, L in zip(prior, frames.tolist(), tokens.tolist(), strict=True):
        wanted = [
            [betabinom.logpmf(k, L - 1, scale * t, scale * (T - t + 1)) for k in range(L)] for t in (1, 2, T // 2, T)
        ]
        found = row[[0, 1, T // 2 - 1, T - 1], :L]
        assert torch.allclose(found, torch.tensor(wanted, dtype=torch.float32), rtol=1e-6, atol=1e-6)
        assert torch.allclose(row[:T, :L].exp().sum(1), torch.ones(T), atol=1e-5)
        assert (row[T:] == 0).all()
        assert (row[:, L:] == 0).all()


def with_blanks(T, L):
    """Every sequence of T labels, blanks (None) included, that collapses to 0 .. L - 1."""
    for labels in itertools.product([None, *range(L)], repeat=T):
        if [label for label, _ in itertools.groupby(labels) if label is not None] == list(range(L)):
            yield labels


@pytest.mark.parametrize("blank", [None, -1.0, -3.0])
def test_forward_sum_is_the_sum_over_all_alignments(blank):
    log_probs = torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(1)).log_softmax(2)
    frames, tokens = torch.tensor([6, 5, 4]), torch.tensor([3, 4, 1])
    total = 0.0
    for row, T, L in zip(log_probs.double(), frames.tolist(), tokens.tolist(), strict=True):
        if blank is None:
            terms = [sum(row[y, x] for y, x in enumerate(path)) for path in paths(T, L)]
        else:
            norm = math.log1p(math.exp(blank))
            terms = [
                sum((blank if x is None else row[y, x]) - norm for y, x in enumerate(p)) for p in with_blanks(T, L)
            ]
        total -= float(torch.logsumexp(torch.stack(terms), 0))
    loss = ForwardSumLoss(blank)(log_probs, frames, tokens)
    assert float(loss.total) == pytest.approx(total, rel=1e-5)
    assert float(loss.count) == 8


def test_a_batch_equals_its_utterances_and_padding_has_no_influence():
    torch.manual_seed(0)
    encoder, given = AlignmentEncoder(6, 8, temperature=0.1), batch()
    log_probs = encoder(**given)
    dirty = {name: value.clone() for name, value in given.items()}
    for b, (T, L) in enumerate(zip(given["spectrogram_length"], given["tokens_length"], strict=True)):
        dirty["spectrogram"][b, :, T:], dirty["hidden"][b, L:] = 1e3, -1e3
    assert torch.equal(encoder(**dirty).argmax(2)[0], log_probs.argmax(2)[0])
    losses = (ForwardSumLoss(), ForwardSumLoss(None), BinarizationLoss())
    totals = torch.zeros(3, 2, dtype=torch.float64)
    for b, (T, L) in enumerate(zip(given["spectrogram_length"].tolist(), given["tokens_length"].tolist(), strict=True)):
        alone = encoder(
            given["hidden"][b : b + 1, :L], torch.tensor([L]), given["spectrogram"][b : b + 1, :, :T], torch.tensor([T])
        )
        assert torch.allclose(alone[0], log_probs[b, :T, :L], atol=1e-4)
        assert torch.allclose(encoder(**dirty)[b, :T, :L], log_probs[b, :T, :L], atol=1e-4)
        totals += all_losses(losses, alone, torch.tensor([T]), torch.tensor([L]))
    assert torch.allclose(log_probs.exp().sum(2), torch.ones(4, 40), atol=1e-5)
    together = all_losses(losses, log_probs, given["spectrogram_length"], given["tokens_length"])
    assert torch.allclose(together, totals, rtol=1e-4)


def all_losses(losses, log_probs, frames, tokens):
    hard = search_path(log_probs, frames, tokens)
    found = [
        loss(alignment_log_probs=log_probs, alignment_hard=hard, spectrogram_length=frames, tokens_length=tokens)
        for loss in losses
    ]
    return torch.tensor([[float(mean.total.detach()), float(mean.count)] for mean in found], dtype=torch.float64)


def test_utterances_that_cannot_be_aligned_do_not_count():
    log_probs = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2)).log_softmax(2).requires_grad_()
    loss = ForwardSumLoss()(log_probs, torch.tensor([4, 4, 4]), torch.tensor([3, 6, 0]))
    assert float(loss.count) == 3
    loss.total.backward()
    assert torch.isfinite(log_probs.grad).all()
    assert (log_probs.grad[1:] == 0).all()
    alone = ForwardSumLoss()(log_probs[:1], torch.tensor([4]), torch.tensor([3]))
    assert loss.total.item() == pytest.approx(alone.total.item())


def test_binarization_counts_the_frames_of_the_path():
    log_probs = torch.tensor([[[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]]).log()
    hard = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]])
    loss = BinarizationLoss()(log_probs, hard, torch.tensor([2]))
    assert float(loss.total / loss.count) == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)


def test_same_under_autocast_and_every_parameter_learns():
    torch.manual_seed(0)
    encoder, given = AlignmentEncoder(6, 8), batch()
    plain = encoder(**given)
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder(**{**given, "hidden": given["hidden"]})
        loss = ForwardSumLoss()(inside, given["spectrogram_length"], given["tokens_length"])
    assert inside.dtype == torch.float32
    assert torch.equal(inside, plain)
    assert loss.total.dtype == torch.float32
    loss.total.backward()
    for name, parameter in encoder.named_parameters():
        if name == "keys.2.bias":  # |k|^2 alone depends on it
            continue
        assert parameter.grad.abs().sum() > 0, name


def test_it_finds_the_boundaries_of_tokens_that_sound_different():
    generator = torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    sounds, n_kinds = torch.randn(6, 8, generator=generator) * 2 - 5, 6
    embedding, encoder = nn.Embedding(n_kinds, 6), AlignmentEncoder(6, 8, temperature=0.02)
    optimizer = torch.optim.Adam([*embedding.parameters(), *encoder.parameters()], 3e-3)
    loss_of = ForwardSumLoss()

    def utterances():
        tokens = torch.stack([torch.randperm(n_kinds, generator=generator) for _ in range(16)])
        durations = torch.randint(2, 12, (16, n_kinds), generator=generator)
        length = durations.sum(1)
        spectrogram = torch.zeros(16, 8, int(length.max()))
        for b in range(16):
            frames = sounds[tokens[b].repeat_interleave(durations[b])].T
            spectrogram[b, :, : length[b]] = frames + 0.3 * torch.randn(frames.shape, generator=generator)
        return tokens, durations, spectrogram, length

    tokens_length = torch.full((16,), n_kinds)
    for _ in range(100):
        tokens, _, spectrogram, length = utterances()
        log_probs = encoder(embedding(tokens), tokens_length, spectrogram, length)
        mean = loss_of(log_probs, length, tokens_length)
        optimizer.zero_grad()
        (mean.total / mean.count).backward()
        optimizer.step()
    tokens, durations, spectrogram, length = utterances()
    found = search_durations(encoder(embedding(tokens), tokens_length, spectrogram, length), length, tokens_length)
    assert (found.cumsum(1) - durations.cumsum(1)).abs().float().mean() < 0.3


def test_the_losses_are_registered():
    assert LOSSES["ForwardSumLoss"] is ForwardSumLoss
    assert LOSSES["BinarizationLoss"] is BinarizationLoss

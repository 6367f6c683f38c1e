import itertools

import pytest
import torch

from hw_asr.decoders import GreedyDecoder
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.registry import DECODERS

ENCODER = CharTextEncoder("abehlo")


def path_log_probs(paths, n_tokens):
    """Posteriors whose best path is the one given; what stands behind a path's end would add tokens."""
    n_frames = max(map(len, paths))
    logits = torch.randn(len(paths), n_frames, n_tokens, generator=torch.Generator().manual_seed(0))
    for row, path in zip(logits, paths, strict=True):
        for t, token in enumerate(path):
            row[t, token] = 9.0 + t
    return logits.log_softmax(-1), torch.tensor([len(path) for path in paths])


def collapsed(path):
    """The definition: join equal neighbors, then take blanks out."""
    return [token for token, _ in itertools.groupby(path) if token != 0]


def test_repeats_around_a_blank_stay():
    path = ["^hello".index(c) if c == "^" else 1 + "abehlo".index(c) for c in "hhe^ll^lo^"]
    log_probs, length = path_log_probs([path], len(ENCODER))
    [[hypothesis]] = GreedyDecoder(ENCODER)(log_probs, length)
    assert hypothesis.text == "hello"
    assert hypothesis.timesteps == (0, 2, 4, 7, 8)
    assert hypothesis.score == pytest.approx(float(log_probs[0].max(-1).values.sum()), abs=1e-5)
    assert hypothesis.acoustic_score == hypothesis.score


def test_every_short_path_in_one_padded_batch():
    paths = [p for n in range(1, 6) for p in itertools.product(range(3), repeat=n)]
    log_probs, length = path_log_probs(paths, 3)
    results = GreedyDecoder(CharTextEncoder("ab"))(log_probs, length)
    for path, [hypothesis], row in zip(paths, results, log_probs, strict=True):
        assert list(hypothesis.tokens) == collapsed(path)
        assert hypothesis.text == "".join("ab"[t - 1] for t in hypothesis.tokens)
        assert [path[t] for t in hypothesis.timesteps] == list(hypothesis.tokens)
        best = sum(float(row[t, token]) for t, token in enumerate(path))
        assert hypothesis.score == pytest.approx(best, abs=1e-5)


def test_no_frames():
    decoder = GreedyDecoder(ENCODER)
    for n_frames in (0, 3):
        log_probs = torch.randn(2, n_frames, len(ENCODER)).log_softmax(-1)
        for [hypothesis] in decoder(log_probs, torch.zeros(2, dtype=torch.int64)):
            assert hypothesis.text == ""
            assert hypothesis.tokens == ()
            assert hypothesis.score == 0.0


def test_the_name_of_configs():
    assert DECODERS["Greedy"] is GreedyDecoder

import itertools
import math

import pytest
import torch

from hw_asr.checks.losses import check_transducer
from hw_asr.checks.transducer import alignments, model_of
from hw_asr.losses import transducer
from hw_asr.losses.transducer import TransducerLoss
from hw_base.checks import Candidate, broken
from hw_base.errors import ConfigError, DataError

TEXTS = [(1, 2, 2), (), (2,), (1, 1)]
FRAMES = [4, 3, 1, 2]


def batch(predictor="LSTMPredictor", seed=0, extra=0):
    model = model_of(seed, predictor)
    generator = torch.Generator().manual_seed(seed)
    states = 2.0 * torch.randn(len(TEXTS), max(FRAMES) + extra, 6, generator=generator)
    tokens = torch.zeros(len(TEXTS), 3, dtype=torch.int64)
    for row, text in zip(tokens, TEXTS, strict=True):
        row[: len(text)] = torch.tensor(text)
    with torch.no_grad():
        predicted = model.predictor_projection(model.predictor(tokens))
    return model, {
        "encoder_states": states,
        "predictor_states": predicted,
        "joiner_weight": model.joiner.weight.detach().clone(),
        "joiner_bias": model.joiner.bias.detach().clone(),
        "log_probs_length": torch.tensor(FRAMES),
        "tokens": tokens,
        "tokens_length": torch.tensor([len(text) for text in TEXTS]),
        "utterance_id": list("abcd"),
        "text": ["x"] * len(TEXTS),
    }


def summed(model, b, i):
    """Log-probability of a transcript, alignment by alignment."""
    text = TEXTS[i]
    found = alignments(model, b["encoder_states"][i, : FRAMES[i]], text, max_symbols=len(text))
    return math.log(sum(map(math.exp, found)))


@pytest.mark.parametrize("predictor", ["LSTMPredictor", "StatelessPredictor"])
@pytest.mark.parametrize("normalize", [False, True])
def test_the_loss_is_the_sum_over_all_alignments(predictor, normalize):
    model, b = batch(predictor)
    mean = TransducerLoss(normalize_by_length=normalize)(**b)
    expected = [-summed(model, b, i) / (max(1, len(TEXTS[i])) if normalize else 1) for i in range(len(TEXTS))]
    assert mean.count == len(TEXTS)
    assert float(mean.total) == pytest.approx(sum(expected), rel=1e-4)


def by_hand(b, i):
    """Negative log-probability by the forward recursion (Graves 2012, equation 16), float64, differentiable."""
    text, n_frames = TEXTS[i], FRAMES[i]
    hidden = torch.tanh(b["encoder_states"][i, :n_frames, None] + b["predictor_states"][i, None, : len(text) + 1])
    log_probs = (hidden @ b["joiner_weight"].T + b["joiner_bias"]).double().log_softmax(-1)
    alpha = {(0, 0): torch.zeros((), dtype=torch.float64)}
    for t, u in itertools.product(range(n_frames), range(len(text) + 1)):
        ways = [alpha[t - 1, u] + log_probs[t - 1, u, 0]] if t else []
        ways += [alpha[t, u - 1] + log_probs[t, u - 1, text[u - 1]]] if u else []
        if ways:
            alpha[t, u] = torch.stack(ways).logsumexp(0)
    return -(alpha[n_frames - 1, len(text)] + log_probs[n_frames - 1, len(text), 0])


PARTS = ("encoder_states", "predictor_states", "joiner_weight", "joiner_bias")


@pytest.mark.parametrize("chunk", [1, 2**19], ids=["one at a time", "all at once"])
def test_gradients_are_those_of_the_recursion_whatever_is_computed_at_a_time(chunk, monkeypatch):
    monkeypatch.setitem(transducer._CHUNK, "cpu", chunk)
    _, b = batch(extra=2)
    for key in PARTS:
        b[key].requires_grad_()
    mean = TransducerLoss()(**b)
    ours = torch.autograd.grad(3.0 * mean.total, [b[key] for key in PARTS])
    expected = torch.stack([by_hand(b, i) / max(1, len(TEXTS[i])) for i in range(len(TEXTS))]).sum()
    torch.testing.assert_close(mean.total.double(), expected, rtol=1e-5, atol=0)
    theirs = torch.autograd.grad(3.0 * expected, [b[key] for key in PARTS])
    for key, one, other in zip(PARTS, ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def test_the_lattice_of_one_group_is_in_memory_at_a_time(monkeypatch):
    """What the joiner makes at once stays within the chunk; one utterance alone may need more."""
    cells = []
    true_costs = transducer._costs

    def noted(parts, targets, rows):
        cells.append((len(rows), parts[0].shape[1] * parts[1].shape[1]))
        return true_costs(parts, targets, rows)

    monkeypatch.setattr(transducer, "_costs", noted)
    monkeypatch.setitem(transducer._CHUNK, "cpu", 20 * 6)
    _, b = batch()
    TransducerLoss()(**b)
    assert cells == [(1, 16), (2, 9), (1, 2)]


def test_utterances_without_frames_or_transcript_have_no_part():
    model, b = batch()
    b["log_probs_length"][0] = 0
    b["text"][2] = None
    for key in PARTS:
        b[key].requires_grad_()
    mean = TransducerLoss(normalize_by_length=False)(**b)
    assert mean.count == 2
    assert float(mean.total.detach()) == pytest.approx(-summed(model, b, 1) - summed(model, b, 3), rel=1e-4)
    gradient = torch.autograd.grad(mean.total, b["encoder_states"])[0]
    assert not gradient[[0, 2]].any()
    assert gradient[[1, 3]].any()


def test_a_batch_without_any_usable_utterance_costs_nothing():
    _, b = batch()
    for key in PARTS:
        b[key].requires_grad_()
    mean = TransducerLoss()(**{**b, "text": [None] * len(TEXTS)})
    assert (mean.total, mean.count) == (0, 0)
    mean.total.backward()
    assert not b["joiner_weight"].grad.any()


def test_no_gradient_is_computed_in_evaluation():
    _, b = batch()
    for key in PARTS:
        b[key].requires_grad_()
    with torch.no_grad():
        assert not TransducerLoss()(**b).total.requires_grad


def test_half_precision_states_give_a_float32_loss():
    _, b = batch()
    expected = TransducerLoss()(**b).total
    with torch.autocast("cpu", torch.bfloat16):
        found = TransducerLoss()(**{**b, "encoder_states": b["encoder_states"].bfloat16()}).total
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(expected), rel=0.05)


def test_a_token_of_another_vocabulary_is_named():
    _, b = batch()
    b["tokens"][3, 1] = 3
    with pytest.raises(DataError, match="utterance 'd': token id 3 at place 1"):
        TransducerLoss()(**b)


def test_another_model_is_refused():
    _, b = batch()
    del b["encoder_states"]
    with pytest.raises(ConfigError, match="the model is no Transducer"):
        TransducerLoss()(**b)


class CountsPadding(TransducerLoss):
    def forward(self, encoder_states, log_probs_length, **batch):
        longest = torch.full_like(log_probs_length, encoder_states.shape[1])
        return super().forward(encoder_states=encoder_states, log_probs_length=longest, **batch)


class Detached(TransducerLoss):
    def forward(self, predictor_states, **batch):
        return super().forward(predictor_states=predictor_states.detach() + 0 * predictor_states, **batch)


class BlankIsTheLastToken(TransducerLoss):
    def forward(self, joiner_bias, joiner_weight, **batch):
        rolled = {"joiner_bias": joiner_bias.roll(1, 0), "joiner_weight": joiner_weight.roll(1, 0)}
        return super().forward(**rolled, **batch)


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (CountsPadding, "padding has no part"),
        (Detached, "the gradient equals differences"),
        (BlankIsTheLastToken, "the target gives the least loss"),
    ],
)
def test_a_wrong_loss_of_transducers_is_caught(mutant, name):
    assert name in broken(check_transducer(Candidate(mutant.__name__, mutant)))

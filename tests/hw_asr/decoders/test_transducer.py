import copy
import itertools
import math

import pytest
import torch

from hw_asr import train_lm
from hw_asr.checks.transducer import DECODER, MAX_SYMBOLS, alignments, model_of, probability
from hw_asr.decoders import TransducerBeamSearchDecoder, TransducerGreedyDecoder
from hw_asr.decoders.transducer import search
from hw_asr.language_models.cache import open_ngram
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.checks import Candidate
from hw_base.errors import ConfigError, DataError
from hw_base.nn.model import BaseModel

ENCODER = CharTextEncoder("ab")
WIDE = {"beam_size": 500, "tokens_per_frame": None, "beam_threshold": None, "max_symbols": MAX_SYMBOLS}


def states_of(n_utterances=6, n_frames=3, seed=5):
    return 2.0 * torch.randn(n_utterances, n_frames, 6, generator=torch.Generator().manual_seed(seed))


def bound(decoder, seed=0, predictor="LSTMPredictor"):
    decoder.bind(model_of(seed, predictor))
    return decoder


def decoded(decoder, states):
    return decoder(states, torch.full((len(states),), states.shape[1]))


def all_texts(n_frames, n_tokens=2):
    tokens = range(1, n_tokens + 1)
    return [t for n in range(n_frames * MAX_SYMBOLS + 1) for t in itertools.product(tokens, repeat=n)]


@pytest.mark.parametrize("predictor", ["LSTMPredictor", "StatelessPredictor"])
def test_a_wide_beam_ranks_all_texts_by_the_sum_of_their_alignments(predictor):
    states = states_of(2)
    decoder = bound(TransducerBeamSearchDecoder(ENCODER, n_best=200, **WIDE), predictor=predictor)
    for one, found in zip(states, decoded(decoder, states), strict=True):
        truth = {text: probability(decoder.model, one, text) for text in all_texts(len(one))}
        assert [h.tokens for h in found] == sorted(truth, key=lambda text: -truth[text])
        for hypothesis in found:
            assert hypothesis.score == pytest.approx(truth[hypothesis.tokens], abs=1e-4)
        assert math.fsum(math.exp(h.score) for h in found) <= 1 + 1e-6


@torch.no_grad()
def followed(model, states, hypothesis):
    """Log-probability of the alignment that the times of a hypothesis name; its token scores are those of the steps."""
    state, total, place = model.predictor.start(1, states.device), 0.0, 0
    for frame, row in enumerate(states):
        count = hypothesis.timesteps.count(frame)
        for token in [*hypothesis.tokens[place : place + count], 0]:
            value = float(model.join(row, model.predict(state))[0, token])
            total += value
            if token:
                assert hypothesis.token_scores[place] == pytest.approx(value, abs=1e-5)
                state = model.predictor.advance(state, torch.tensor([token]))
                place += 1
    return total


def test_the_times_of_a_hypothesis_are_those_of_its_best_alignment():
    states = states_of()
    decoder = bound(TransducerBeamSearchDecoder(ENCODER, n_best=3, **WIDE))
    for one, found in zip(states, decoded(decoder, states), strict=True):
        for hypothesis in found:
            best = max(alignments(decoder.model, one, hypothesis.tokens))
            total = followed(decoder.model, one, hypothesis)
            assert total == pytest.approx(best, abs=1e-4)


def test_the_greedy_decoder_follows_the_most_probable_choice_step_by_step():
    decoder = bound(TransducerGreedyDecoder(ENCODER, max_symbols=3))
    states, lengths = states_of(5, 9), [9, 0, 4, 1, 7]
    model = decoder.model
    for one, n, found in zip(states, lengths, decoder(states, torch.tensor(lengths)), strict=True):
        state, tokens, frames, score = model.predictor.start(1, one.device), [], [], 0.0
        with torch.no_grad():
            for frame in range(n):
                for emitted in range(4):
                    log_probs = model.join(one[frame], model.predict(state))[0]
                    token = int(log_probs.argmax()) if emitted < 3 else 0
                    score += float(log_probs[token])
                    if token == 0:
                        break
                    tokens.append(token)
                    frames.append(frame)
                    state = model.predictor.advance(state, torch.tensor([token]))
        (hypothesis,) = found
        assert hypothesis.tokens == tuple(tokens)
        assert hypothesis.timesteps == tuple(frames)
        assert hypothesis.score == pytest.approx(score, abs=1e-4)


@pytest.fixture
def lm(tmp_path):
    (tmp_path / "text").write_text("ab\nabab\naab\nba\n")
    path = str(tmp_path / "lm.arpa")
    assert train_lm.main(["--text", str(tmp_path / "text"), "--level", "char", "--order", "3", "-o", path]) == 0
    return path


@pytest.mark.parametrize(("lm_weight", "word_score"), [(1.5, 0.0), (0.7, 1.3)])
def test_with_a_language_model_the_best_text_is_that_of_the_whole_formula(lm, lm_weight, word_score):
    states, model = states_of(3), open_ngram(lm)
    weights = {"lm": lm, "lm_weight": lm_weight, "word_score": word_score}
    decoder = bound(TransducerBeamSearchDecoder(ENCODER, **WIDE, **weights))
    changed = 0
    for one, found in zip(states, decoded(decoder, states), strict=True):
        acoustic = {text: probability(decoder.model, one, text) for text in all_texts(len(one))}
        lm_scores = {text: model.score(" ".join(ENCODER.decode(text))) for text in acoustic}
        total = {text: acoustic[text] + lm_weight * lm_scores[text] + word_score * len(text) for text in acoustic}
        best = max(total, key=lambda text: total[text])
        assert found[0].tokens == best
        assert found[0].score == pytest.approx(total[best], abs=1e-3)
        assert found[0].lm_score == pytest.approx(lm_scores[best], abs=1e-4)
        changed += best != max(acoustic, key=lambda text: acoustic[text])
    assert changed


def test_a_lexicon_is_kept_to(tmp_path):
    """Words of ``a``, ``b`` and a blank: the third token separates them."""
    encoder = CharTextEncoder("a ")
    (tmp_path / "words").write_text("aa\n")
    decoder = bound(TransducerBeamSearchDecoder(encoder, lexicon=str(tmp_path / "words"), n_best=20, **WIDE))
    plain = bound(TransducerBeamSearchDecoder(encoder, n_best=200, **WIDE))
    for free, found in zip(decoded(plain, states_of()), decoded(decoder, states_of()), strict=True):
        assert {word for hypothesis in found for word in hypothesis.text.split()} <= {"aa"}
        allowed = [
            h for h in free if all(w == "aa" for w in h.text.split()) and "  " not in h.text and h.text[:1] != " "
        ]
        assert found[0].tokens == allowed[0].tokens
        assert found[0].acoustic_score == pytest.approx(allowed[0].acoustic_score, abs=1e-4)


def test_hot_words_are_preferred():
    encoder = CharTextEncoder("a ")
    states = states_of(12)
    plain = decoded(bound(TransducerBeamSearchDecoder(encoder, **WIDE)), states)
    hot = decoded(bound(TransducerBeamSearchDecoder(encoder, hot_words={"aa": 6.0}, **WIDE)), states)
    counts = [sum(found[0].text.split().count("aa") for found in lists) for lists in (plain, hot)]
    assert counts[1] > counts[0]


@pytest.mark.parametrize("beam_size", [1, 2, 20])
def test_the_score_of_a_narrow_beam_is_at_most_that_of_all_alignments_and_at_least_its_best_one(beam_size):
    states = states_of(4, 7)
    decoder = bound(TransducerBeamSearchDecoder(ENCODER, beam_size=beam_size, n_best=2, max_symbols=MAX_SYMBOLS))
    for one, found in zip(states, decoded(decoder, states), strict=True):
        assert len({h.tokens for h in found}) == len(found) == min(beam_size, 2)
        for hypothesis in found:
            exact = probability(decoder.model, one, hypothesis.tokens)
            assert followed(decoder.model, one, hypothesis) - 1e-4 <= hypothesis.score <= exact + 1e-4


def test_a_narrow_beam_is_hardly_worse_than_a_wide_one():
    states = states_of(6, 9)
    narrow = decoded(bound(TransducerBeamSearchDecoder(ENCODER, beam_size=20, max_symbols=2)), states)
    wide = decoded(bound(TransducerBeamSearchDecoder(ENCODER, beam_size=80, max_symbols=2)), states)
    assert sum(a[0].tokens == b[0].tokens for a, b in zip(narrow, wide, strict=True)) >= 3
    assert all(b[0].score - 0.3 < a[0].score <= b[0].score + 1e-6 for a, b in zip(narrow, wide, strict=True))


def pointed_at():
    """A transducer that emits the token that a state points at, unless it is the one that it emitted last."""
    model = copy.deepcopy(model_of(0, "StatelessPredictor"))
    n_tokens, width = model.joiner.weight.shape[0], model.predictor.n_outputs
    with torch.no_grad():
        for part in (model.joiner, model.predictor_projection, model.predictor):
            for parameter in part.parameters():
                parameter.zero_()
        model.joiner.weight[:, :n_tokens] = 10 * torch.eye(n_tokens)
        model.predictor.embedding.weight[1:, 1:n_tokens] = torch.eye(n_tokens - 1)
        model.predictor.conv.weight[:, :, -1] = torch.eye(width)
        model.predictor_projection.weight[:width] = -4 * torch.eye(width)
    return model


@pytest.mark.parametrize("beam_size", [1, 2, 20, 80])
def test_a_beam_of_any_width_finds_a_text_that_is_more_probable_than_all_others_together(beam_size):
    frames = [(1, 0, 2, 1, 0), (0, 0, 0, 0, 0), (2, 2, 1, 1, 2), (0, 1, 0, 1, 2), (1, 2, 1, 2, 1), (2, 0, 0, 0, 1)]
    states = torch.full((len(frames), 5, 6), -2.0)
    states[..., 0] = 0.0
    for row, pointed in zip(states, frames, strict=True):
        for state, token in zip(row, pointed, strict=True):
            state[token] = 2.0
    states += 0.2 * torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
    decoder = TransducerBeamSearchDecoder(ENCODER, beam_size=beam_size, max_symbols=MAX_SYMBOLS)
    decoder.bind(pointed_at())
    for one, pointed, found in zip(states, frames, decoded(decoder, states), strict=True):
        tokens = tuple(token for token, _ in itertools.groupby(filter(None, pointed)))
        exact = probability(decoder.model, one, tokens)
        assert exact > math.log(0.5)
        assert found[0].tokens == tokens
        assert found[0].score == pytest.approx(exact, abs=1e-2)


@pytest.mark.parametrize("kind", [TransducerBeamSearchDecoder, TransducerGreedyDecoder])
def test_what_cannot_be_decoded_is_said_in_one_line(kind):
    decoder = kind(ENCODER)
    with pytest.raises(ConfigError, match=r"call bind\(model\) first"):
        decoder(states_of(), torch.tensor([3] * 6))
    with pytest.raises(ConfigError, match="decodes a Transducer, found a BaseModel"):
        decoder.bind(BaseModel())
    bound(decoder)
    with pytest.raises(DataError, match=r"expected encoder_states \(B, T, 6\)"):
        decoder(torch.zeros(2, 3, 5), torch.tensor([3, 3]))
    with pytest.raises(DataError, match="utterance 3 claims 4 frames of 3"):
        decoder(states_of(), torch.tensor([3, 3, 3, 4, 3, 3]))
    broken = states_of()
    broken[2, 1] = math.nan
    with pytest.raises(DataError, match="utterance 2 of the batch, frame 1: encoder_states holds NaN or infinity"):
        decoder(broken, torch.tensor([3] * 6))
    assert decoder(torch.zeros(0, 3, 6), torch.zeros(0, dtype=torch.int64)) == []


@pytest.mark.parametrize("kind", [TransducerBeamSearchDecoder, TransducerGreedyDecoder])
def test_what_the_padding_holds_has_no_part(kind):
    decoder, lengths = bound(kind(ENCODER)), torch.tensor([3, 0, 1, 2, 3, 3])
    states, broken = states_of(), states_of()
    for row, n in zip(broken, lengths.tolist(), strict=True):
        row[n:] = math.nan
    assert decoder(broken, lengths) == decoder(states, lengths)


def keeps_the_better(self, other):
    return self if self.acoustic >= other.acoustic else other


def test_a_search_that_does_not_add_up_alignments_is_caught(monkeypatch):
    monkeypatch.setattr(search.Prefix, "joined", keeps_the_better)
    candidate = Candidate("TransducerBeamSearchDecoder", TransducerBeamSearchDecoder)
    assert DECODER["scores are log probabilities"].check(candidate).holds is False


class Frames(TransducerGreedyDecoder):
    """Does not look at the lengths."""

    def search(self, states, length):
        return super().search(states, torch.full_like(length, states.shape[1]))


class Unbounded(TransducerGreedyDecoder):
    def __init__(self, text_encoder, max_symbols: int = 5):
        super().__init__(text_encoder, max_symbols + 1)


class Dropout(TransducerGreedyDecoder):
    def search(self, states, length):
        self.model.train()
        return super().search(torch.nn.functional.dropout(states, 0.9), length)


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (Frames, "a batch gives what its utterances give alone"),
        (Frames, "an utterance without frames is an empty text"),
        (Unbounded, "a frame emits no more tokens than allowed"),
        (Dropout, "the mode of the model is kept and has no part"),
    ],
)
def test_a_wrong_decoder_of_transducers_is_caught(mutant, name):
    assert DECODER[name].check(Candidate(mutant.__name__, mutant)).holds is False

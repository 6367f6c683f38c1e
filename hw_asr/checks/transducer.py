"""What every decoder of transducers keeps to; the measure is the sum over all alignments of tiny inputs."""

import itertools
import math
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_asr.checks.decoders import (
    LM,
    TOLERANCE,
    Text,
    claims,
    decode,
    decoder_of,
    expect_empty_texts,
    expect_most_probable,
    expect_own_texts,
    expect_sorted_and_distinct,
    expect_the_same_alone,
    expect_true_scores,
)
from hw_asr.decoders.base import Hypothesis
from hw_asr.decoders.transducer import TransducerDecoder
from hw_asr.models.transducer import Transducer
from hw_base import seeding
from hw_base.checks import Candidate, Contract, Outcome, declare, expect
from hw_base.config.schema import Component

DECODER: Contract[Candidate] = Contract("decoder of transducers")

N_TOKENS, N_FRAMES, MAX_SYMBOLS, WIDTH = 3, 3, 2, 6
_N_INPUTS = 8
_WIDE: dict[str, Any] = {"beam_size": 400, "tokens_per_frame": None, "beam_threshold": None}


def check_decoder(candidate: Candidate) -> list[Outcome]:
    """All properties of a decoder of transducers."""
    return DECODER.check(candidate)


@cache
def model_of(seed: int, predictor: str = "LSTMPredictor") -> Transducer:
    """A tiny transducer with random weights that are far from equal."""
    encoder = Component(type="DeepSpeech2", args={"conv_channels": [1], "n_layers": 1, "n_hidden": 2})
    with seeding.isolated(seed):
        model = Transducer(4, N_TOKENS, encoder, Component(type=predictor, args={"width": 4}), WIDTH)
        for layer in (model.joiner, model.predictor_projection):
            nn.init.normal_(layer.weight, std=1.5)
        nn.init.normal_(model.joiner.bias)
    return model.eval()


@torch.no_grad()
def alignments(model: Transducer, states: Tensor, text: Text, max_symbols: int = MAX_SYMBOLS) -> list[float]:
    """Log-probability of every alignment of a text with encoder states (T, J), at most so many tokens a frame."""
    state = model.predictor.start(1, states.device)
    predicted = [model.predict(state)]
    for token in text:
        state = model.predictor.advance(state, torch.tensor([token]))
        predicted.append(model.predict(state))
    lattice = model.join(states[:, None], torch.cat(predicted)[None]).double().tolist()
    found = []
    for counts in itertools.product(range(max_symbols + 1), repeat=len(states)):
        if sum(counts) != len(text):
            continue
        total, place = 0.0, 0
        for row, count in zip(lattice, counts, strict=True):
            total += sum(row[place + i][text[place + i]] for i in range(count))
            place += count
            total += row[place][0]
        found.append(total)
    return found


def probability(model: Transducer, states: Tensor, text: Text) -> float:
    """Log-probability of a text: the sum over all its alignments."""
    found = alignments(model, states, text)
    return float(torch.tensor(found, dtype=torch.float64).logsumexp(0)) if found else -math.inf


@cache
def _truth(seed: int, index: int) -> dict[Text, float]:
    """Log-probability of every text under one of the inputs."""
    texts = [
        text for n in range(N_FRAMES * MAX_SYMBOLS + 1) for text in itertools.product(range(1, N_TOKENS), repeat=n)
    ]
    states = _inputs(seed)[index]
    return {text: probability(model_of(seed), states, text) for text in texts}


def _inputs(seed: int, n_frames: int = N_FRAMES) -> Tensor:
    """Encoder states, (N, T, J)."""
    generator = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randn(_N_INPUTS // 2, n_frames, WIDTH, generator=generator)


def _decoder(candidate: Candidate, seed: int = 0, **wanted: Any) -> TransducerDecoder:
    decoder: Any = decoder_of(candidate, N_TOKENS, **{"max_symbols": MAX_SYMBOLS, **wanted})
    decoder.bind(model_of(seed))
    made: TransducerDecoder = decoder
    return made


def _cases(candidate: Candidate, **wanted: Any) -> Iterator[tuple[list[Hypothesis], dict[Text, float]]]:
    for seed in range(2):
        for index, found in enumerate(decode(_decoder(candidate, seed, **wanted), _inputs(seed))):
            yield found, _truth(seed, index)


@DECODER.property("max instead of log-add where alignments meet, or a frame's tokens lose their blank")
def a_wide_beam_finds_the_most_probable_text(candidate: Candidate) -> None:
    expect_most_probable(candidate, _cases(candidate, **_WIDE))


@DECODER.property("scores of alignments are not summed, or an alignment is counted twice")
def scores_are_log_probabilities(candidate: Candidate) -> None:
    expect_true_scores(candidate, _cases(candidate, n_best=3, **_WIDE))


@DECODER.property("the greedy choice is better than the beam's: wrong ranking, or pruning before scores are merged")
def a_beam_is_not_worse_than_the_best_path(candidate: Candidate) -> None:
    claims(candidate, "beam_size")
    from hw_asr.decoders.transducer.greedy import TransducerGreedyDecoder

    plain = Candidate("greedy", TransducerGreedyDecoder, {})
    for beam_size in (2, 4):
        pairs = zip(_cases(candidate, beam_size=beam_size), _cases(plain), strict=True)
        gains = [truth[found[0].tokens] - truth[path[0].tokens] for (found, truth), (path, _) in pairs]
        mean = sum(gains) / len(gains)
        expect(mean >= 0.0, f"beam {beam_size}: texts as probable as the greedy ones", f"{mean:.4f} on average")


@DECODER.property("a frame is not left after max_symbols tokens, or is left without its blank")
def a_frame_emits_no_more_tokens_than_allowed(candidate: Candidate) -> None:
    claims(candidate, "max_symbols")
    for limit in (1, 2):
        for one in (found[0] for found in decode(_decoder(candidate, max_symbols=limit), _inputs(0, 9))):
            most = max((one.timesteps.count(frame) for frame in one.timesteps), default=0)
            expect(most <= limit, f"at most {limit} tokens in a frame", most)


@DECODER.property("frames are counted from another start, or the times of another alignment are kept")
def times_and_scores_are_those_of_one_alignment(candidate: Candidate) -> None:
    for found in decode(_decoder(candidate), _inputs(0, 7)):
        one = found[0]
        frames = list(one.timesteps)
        expect(len(frames) == len(one.tokens), "a frame for each token", frames)
        expect(frames == sorted(frames), "rising frames", frames)
        expect(all(0 <= frame < 7 for frame in frames), "frames of the utterance", frames)
        if one.token_scores:
            expect(len(one.token_scores) == len(frames), "a score for each token", one.token_scores)
            expect(max(one.token_scores) <= 0, "log-probabilities of tokens", one.token_scores)


@DECODER.property("the search begins with no prefix, or reads a frame that is not there")
def an_utterance_without_frames_is_an_empty_text(candidate: Candidate) -> None:
    expect_empty_texts(_decoder(candidate), _inputs(0)[:2])


@DECODER.property("the length is not looked at, or one utterance's text reaches another's predictor")
def a_batch_gives_what_its_utterances_give_alone(candidate: Candidate) -> None:
    expect_the_same_alone(_decoder(candidate, n_best=3), _inputs(0, 9), torch.tensor([9, 1, 0, 5]))


@DECODER.property("two paths to one text are kept apart, or sorted before the last scores are added")
def the_n_best_are_sorted_and_distinct(candidate: Candidate) -> None:
    claims(candidate, "n_best")
    for found, _ in _cases(candidate, beam_size=20, n_best=4):
        expect_sorted_and_distinct(found, 4)


@DECODER.property("the language model is added although its weight is 0, or is not added at all")
def a_language_model_counts_as_much_as_its_weight(candidate: Candidate) -> None:
    claims(candidate, "lm")
    states = torch.cat([_inputs(0), _inputs(0, 6)[:, 3:]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.arpa"
        path.write_text(LM)
        lm = {"lm": str(path)}
        extras: list[dict[str, Any]] = [{}, {**lm, "lm_weight": 0.0}, {**lm, "lm_weight": 4.0}]
        found = [decode(_decoder(candidate, **{**_WIDE, **extra}), states) for extra in extras]
    plain, unweighed, weighed = ([one[0].tokens for one in found_by] for found_by in found)
    expect(unweighed == plain, "the same texts with weight 0 as without a model", "others")
    expect(weighed != plain, "other texts with weight 4", "the same")
    for one in (lists[0] for lists in found[2]):
        expected = one.acoustic_score + 4.0 * one.lm_score
        expect(abs(one.score - expected) < TOLERANCE, f"a score of {expected:.4f}", f"{one.score:.4f}")


@DECODER.property("the text is not that of the tokens: another alphabet, or ids shifted by the blank")
def texts_are_those_of_the_tokens(candidate: Candidate) -> None:
    expect_own_texts(_decoder(candidate), _inputs(0, 7))


@DECODER.property("dropout is active in a search, or the model is left in evaluation")
def the_mode_of_the_model_is_kept_and_has_no_part(candidate: Candidate) -> None:
    decoder = _decoder(candidate)
    model = decoder.model
    expected = decode(decoder, _inputs(0))
    model.train()
    try:
        found = decode(decoder, _inputs(0))
        expect(model.training, "the model in training as it was", "in evaluation")
    finally:
        model.eval()
    same = all(a[0].tokens == b[0].tokens for a, b in zip(expected, found, strict=True))
    expect(same, "the same texts while the model trains", "others")


declare("decoders", check_decoder, TransducerDecoder)

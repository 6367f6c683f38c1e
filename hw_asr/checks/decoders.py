"""What every CTC decoder keeps to; the measure is the sum over all alignments of tiny inputs."""

import inspect
import itertools
import math
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_asr.decoders.base import BaseDecoder, Hypothesis
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.checks import Candidate, Contract, Outcome, declare, expect
from hw_base.checks.contract import NotClaimedError
from hw_base.errors import HwError

DECODER: Contract[Candidate] = Contract("decoder")
Text = tuple[int, ...]

# Vocabulary and frames of inputs small enough that all paths can be counted.
_SIZES = ((3, 5), (4, 4), (2, 6))
_N_INPUTS = 48
TOLERANCE = 1e-3
# Inputs whose texts are in one order only.
_UNTIED = [i for i in range(_N_INPUTS) if i % 6 < 3]

LM = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-0.9\t<unk>
-99\t<s>\t0
-0.9\t</s>
-0.2\ta\t-0.1
-1.3\tb\t-0.1

\\2-grams:
-0.4\ta b
-0.3\tb a

\\end\\
"""


def check_decoder(candidate: Candidate) -> list[Outcome]:
    """All properties of a decoder."""
    return DECODER.check(candidate)


@cache
def _paths(n_tokens: int, n_frames: int) -> tuple[Tensor, Tensor, tuple[Text, ...]]:
    """All paths (N, T), for each the index of the text that it collapses to, and those texts."""
    paths = list(itertools.product(range(n_tokens), repeat=n_frames))
    texts = [tuple(token for token, _ in itertools.groupby(path) if token) for path in paths]
    distinct = tuple(sorted(set(texts)))
    index = {text: i for i, text in enumerate(distinct)}
    return torch.tensor(paths), torch.tensor([index[text] for text in texts]), distinct


def probabilities(log_probs: Tensor) -> dict[Text, float]:
    """Log-probability of every text under posteriors (T, V): the sum over all its alignments."""
    n_frames, n_tokens = log_probs.shape
    paths, group, texts = _paths(n_tokens, n_frames)
    path_probs = log_probs.double()[torch.arange(n_frames), paths].sum(1).exp()
    total = torch.zeros(len(texts), dtype=torch.float64).index_add_(0, group, path_probs)
    return {text: math.log(p) if p > 0 else -math.inf for text, p in zip(texts, total.tolist(), strict=True)}


def best_alignments(log_probs: Tensor) -> dict[Text, float]:
    """Log-probability of every text's most probable alignment under posteriors (T, V)."""
    n_frames, n_tokens = log_probs.shape
    paths, group, texts = _paths(n_tokens, n_frames)
    path_scores = log_probs.double()[torch.arange(n_frames), paths].sum(1)
    best = torch.full((len(texts),), -math.inf, dtype=torch.float64).scatter_reduce_(0, group, path_scores, "amax")
    return dict(zip(texts, best.tolist(), strict=True))


def _inputs(n_tokens: int, n_frames: int) -> Tensor:
    """Flat, blank-heavy, peaky, repetitive, tied and partly impossible posteriors, in turns: (N, T, V)."""
    generator = torch.Generator().manual_seed(n_tokens)
    shape = (_N_INPUTS, n_frames, n_tokens)
    logits = torch.randn(shape, generator=generator)
    kind = (torch.arange(_N_INPUTS) % 6)[:, None, None]
    logits = torch.where(kind == 1, logits + 3.0 * (torch.arange(n_tokens) == 0), logits)
    logits = torch.where(kind == 2, logits * 8.0, logits)
    logits = torch.where(kind == 3, logits[:, :1].expand(shape), logits)
    logits = torch.where(kind == 4, logits.round().clamp(-1, 1), logits)
    impossible = (torch.rand(shape, generator=generator) < 0.4) & (torch.arange(n_tokens) != 0)
    logits = torch.where((kind == 5) & impossible, -math.inf, logits)
    return logits.double().log_softmax(-1).float()


def decoder_of(candidate: Candidate, n_tokens: int, **wanted: Any) -> BaseDecoder:
    """A decoder of ``a``, ``b``, ...; `wanted` arguments are given as far as it has them."""
    encoder = CharTextEncoder("abcd efgh"[: n_tokens - 1])
    known = inspect.signature(candidate.target).parameters
    args = dict(candidate.args) | {key: value for key, value in wanted.items() if key in known}
    decoder: BaseDecoder = Candidate(candidate.name, candidate.target, args).build(text_encoder=encoder)
    return decoder


def decode(decoder: BaseDecoder, frames: Tensor) -> list[list[Hypothesis]]:
    """Decode utterances of the same length, (B, T, ...)."""
    return decoder(frames, torch.full((len(frames),), frames.shape[1]))


def claims(candidate: Candidate, argument: str) -> None:
    """Raise NotClaimedError for a decoder that has no such argument."""
    if argument not in inspect.signature(candidate.target).parameters:
        raise NotClaimedError(f"it has no argument {argument!r}")


def expect_most_probable(candidate: Candidate, cases: Iterable[tuple[list[Hypothesis], dict[Text, float]]]) -> None:
    """Expect of each case, hypotheses and the log-probability of every text, that the first is the most probable text.

    Raises:
        NotClaimedError: the decoder says that it approximates.
    """
    if not candidate.target.exact:  # type: ignore[attr-defined]
        raise NotClaimedError("it says that it approximates (exact is False)")
    for found, truth in cases:
        best, tokens = max(truth, key=lambda text: truth[text]), found[0].tokens
        score = truth.get(tokens, -math.inf)
        expect(
            score >= truth[best] - TOLERANCE, f"{best} with log-probability {truth[best]:.4f}", f"{tokens}: {score:.4f}"
        )


def expect_true_scores(candidate: Candidate, cases: Iterable[tuple[list[Hypothesis], dict[Text, float]]]) -> None:
    """Expect of each case the log-probabilities of the texts as scores; of what approximates, none above them."""
    for found, truth in cases:
        for one in found:
            real, score = truth.get(one.tokens, -math.inf), one.acoustic_score
            expect(score <= real + TOLERANCE, f"{one.tokens}: at most {real:.4f}, of all alignments", f"{score:.4f}")
            if candidate.target.exact:  # type: ignore[attr-defined]
                expect(score >= real - TOLERANCE, f"{one.tokens}: {real:.4f}, of all alignments", f"{score:.4f}")


def expect_empty_texts(decoder: BaseDecoder, frames: Tensor) -> None:
    """Expect the empty text of the first of two utterances (2, T, ...) without frames, and of both of (2, 0, ...)."""
    found = decoder(frames, torch.tensor([0, frames.shape[1]]))
    expect(len(found) == 2 and len(found[0]) >= 1, "one list for each utterance, never empty", [len(f) for f in found])
    expect(found[0][0].text == "" and found[0][0].tokens == (), "an empty text", repr(found[0][0].text))
    nothing = [(h[0].text, h[0].tokens) for h in decoder(frames[:, :0], torch.tensor([0, 0]))]
    expect(nothing == [("", ())] * 2, "empty texts where no utterance has a frame", nothing)


def expect_the_same_alone(decoder: BaseDecoder, frames: Tensor, lengths: Tensor) -> None:
    """Expect of each utterance of a batch, (B, T, ...) and (B,), what it gives alone."""
    together = decoder(frames, lengths)
    for i, n in enumerate(lengths.tolist()):
        alone = decoder(frames[i : i + 1, :n], lengths[i : i + 1])[0]
        expected, found = [h.tokens for h in alone], [h.tokens for h in together[i]]
        expect(found == expected, f"{expected} as alone, of {n} frames", found)
        worst = max(abs(a.score - b.score) for a, b in zip(alone, together[i], strict=True))
        expect(worst <= TOLERANCE, "scores as alone", f"a difference of {worst:.4g}")


def expect_sorted_and_distinct(found: list[Hypothesis], n_best: int) -> None:
    """Expect at most so many hypotheses of an utterance, of distinct texts, best first."""
    scores, texts = [h.score for h in found], [h.tokens for h in found]
    expect(len(set(texts)) == len(texts), "distinct texts", texts)
    expect(scores == sorted(scores, reverse=True), "best first", scores)
    expect(len(found) <= n_best, f"at most n_best = {n_best}", len(found))


def expect_own_texts(decoder: BaseDecoder, frames: Tensor) -> None:
    """Expect of each hypothesis the text that its tokens spell."""
    for one in itertools.chain.from_iterable(decode(decoder, frames)):
        expected = decoder.text_encoder.decode(one.tokens)
        expect(one.text == expected, f"{expected!r} of {one.tokens}", repr(one.text))


def _cases(candidate: Candidate, **wanted: Any) -> Iterator[tuple[Tensor, list[Hypothesis], dict[Text, float]]]:
    for n_tokens, n_frames in _SIZES:
        log_probs = _inputs(n_tokens, n_frames)
        for one, found in zip(log_probs, decode(decoder_of(candidate, n_tokens, **wanted), log_probs), strict=True):
            yield one, found, probabilities(one)


@DECODER.property("max instead of log-add where alignments of a prefix meet, or a prefix keeps one score, not two")
def a_wide_beam_finds_the_most_probable_text(candidate: Candidate) -> None:
    expect_most_probable(candidate, ((found, truth) for _, found, truth in _cases(candidate, beam_size=400)))


@DECODER.property("scores of alignments are not summed, or an alignment is counted twice")
def scores_are_log_probabilities(candidate: Candidate) -> None:
    cases = _cases(candidate, beam_size=400, n_best=3)
    expect_true_scores(candidate, ((found, truth) for _, found, truth in cases))


@DECODER.property("blanks between equal tokens are dropped before repeats are collapsed, or repeats are kept")
def repeats_collapse_and_blanks_keep_them_apart(candidate: Candidate) -> None:
    decoder = decoder_of(candidate, 4)
    for path in ("1", "11", "101", "1011", "0110", "1100220", "12", "1221", "000", "3013", "10101"):
        log_probs = torch.full((1, len(path), 4), 1e-6)
        for t, token in enumerate(path):
            log_probs[0, t, int(token)] = 1.0
        log_probs = (log_probs / log_probs.sum(-1, keepdim=True)).log()
        expected = tuple(int(token) for token, _ in itertools.groupby(path) if token != "0")
        found = decode(decoder, log_probs)[0][0].tokens
        expect(found == expected, f"path {path} (0 is the blank) to give {expected}", found)


@DECODER.property("the search begins with no prefix, or reads a frame that is not there")
def an_utterance_without_frames_is_an_empty_text(candidate: Candidate) -> None:
    expect_empty_texts(decoder_of(candidate, 4), _inputs(4, 4)[:2])


@DECODER.property("log_probs_length is not looked at, or one utterance's beam reaches another's")
def a_batch_gives_what_its_utterances_give_alone(candidate: Candidate) -> None:
    lengths = torch.tensor([9, 1, 5, 0, 7, 2, 9, 3, 4, 6, 8, 1])
    expect_the_same_alone(decoder_of(candidate, 4, n_best=3), _inputs(4, 9)[_UNTIED[:12]], lengths)


@DECODER.property("a beam drops the best path's prefix: wrong ranking, or pruning before scores are merged")
def a_beam_is_not_worse_than_the_best_path(candidate: Candidate) -> None:
    claims(candidate, "beam_size")
    for beam_size in (1, 4):
        gains = []
        for log_probs, found, truth in _cases(candidate, beam_size=beam_size):
            path = log_probs.argmax(-1).tolist()
            greedy = tuple(token for token, _ in itertools.groupby(path) if token)
            gain = _gain(truth, found[0].tokens, greedy)
            if not candidate.target.exact:  # type: ignore[attr-defined]
                # Where it ranks single alignments and several are the best, it may take any of them, also one whose
                # text has fewer others: by its own measure that is no loss. It happens in tied inputs alone.
                gain = max(gain, _gain(best_alignments(log_probs), found[0].tokens, greedy))
            gains.append(gain)
        mean = sum(gains) / len(gains)
        expect(
            mean >= 0.0, f"beam {beam_size}: texts at least as probable as the best path's", f"{mean:.4f} on average"
        )


def _gain(scores: dict[Text, float], found: Text, other: Text) -> float:
    return max(-20.0, scores.get(found, -math.inf)) - max(-20.0, scores[other])


@DECODER.property("two paths to one text are kept apart, or sorted before the last scores are added")
def the_n_best_are_sorted_and_distinct(candidate: Candidate) -> None:
    claims(candidate, "n_best")
    for _, found, _ in _cases(candidate, beam_size=50, n_best=5):
        expect_sorted_and_distinct(found, 5)


@DECODER.property("the language model is added although its weight is 0, or pruning looks at its score")
def a_language_model_without_weight_changes_nothing(candidate: Candidate) -> None:
    claims(candidate, "lm")
    log_probs = _inputs(3, 6)[_UNTIED]
    plain = decode(decoder_of(candidate, 3, beam_size=20), log_probs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.arpa"
        path.write_text(LM)
        scored = decode(decoder_of(candidate, 3, beam_size=20, lm=str(path), lm_weight=0.0), log_probs)
        weighed = decode(decoder_of(candidate, 3, beam_size=20, lm=str(path), lm_weight=3.0), log_probs)
    expected, found = [h[0].tokens for h in plain], [h[0].tokens for h in scored]
    expect(found == expected, "the same texts with weight 0 as without a model", "others")
    expect([h[0].tokens for h in weighed] != expected, "other texts with weight 3", "the same")


@DECODER.property("logits are read as log-probabilities without an error")
def unnormalized_input_is_refused_or_normalized(candidate: Candidate) -> None:
    decoder = decoder_of(candidate, 4)
    log_probs = _inputs(4, 6)[:6]
    expected = [(h[0].tokens, h[0].score) for h in decode(decoder, log_probs)]
    try:
        found = [(h[0].tokens, h[0].score) for h in decode(decoder, log_probs + 2.5)]
    except HwError:
        return
    same = all(a[0] == b[0] and abs(a[1] - b[1]) < TOLERANCE for a, b in zip(expected, found, strict=True))
    expect(same, "an error, or the result of the normalized input", "other scores")


@DECODER.property("the text is not that of the tokens: another alphabet, or ids shifted by the blank")
def texts_are_those_of_the_tokens(candidate: Candidate) -> None:
    expect_own_texts(decoder_of(candidate, 4, n_best=2), _inputs(4, 7)[:12])


declare("decoders", check_decoder, BaseDecoder)

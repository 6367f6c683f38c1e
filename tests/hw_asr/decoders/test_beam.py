import itertools
import math
from functools import cache

import numpy as np
import pytest
import torch

from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.greedy import GreedyDecoder
from hw_asr.decoders.reference import ReferenceBeamSearch, prefix_search
from hw_asr.language_models.arpa import Arpa, Grams, write_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.errors import ConfigError, DataError

ENGINES = ("tensor", "compiled")
EXACT = {"tokens_per_frame": None, "beam_threshold": None}


@pytest.fixture(autouse=True)
def _needs_numba(monkeypatch, tmp_path):
    pytest.importorskip("numba")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def posteriors(logits):
    return torch.log_softmax(logits.double(), dim=-1).float()


def lengths(log_probs):
    return torch.full((len(log_probs),), log_probs.shape[1])


@cache
def alignments(n_tokens, n_frames):
    """All paths (N, T), and for each the index of the token sequence it collapses to; those sequences."""
    paths = list(itertools.product(range(n_tokens), repeat=n_frames))
    texts = [tuple(token for token, _ in itertools.groupby(path) if token) for path in paths]
    distinct = sorted(set(texts))
    index = {text: i for i, text in enumerate(distinct)}
    return np.array(paths), np.array([index[text] for text in texts]), distinct


def exhaustive(log_probs):
    """Log-probability of every token sequence, by summing all its alignments."""
    n_frames, n_tokens = log_probs.shape
    paths, group, texts = alignments(n_tokens, n_frames)
    probability = np.exp(log_probs.double().numpy()[np.arange(n_frames), paths].sum(1))
    total = np.bincount(group, probability, len(texts))
    return {text: math.log(p) for text, p in zip(texts, total, strict=True) if p > 0}


def hard_logits(n_tokens, n_frames, generator, count):
    """Random, blank-heavy, peaky, repetitive, tied and impossible posteriors, in turns."""
    shape = (count, n_frames, n_tokens)
    logits = torch.randn(shape, generator=generator)
    kind = torch.arange(count)[:, None, None] % 6
    logits = torch.where(kind == 1, logits + 4.0 * (torch.arange(n_tokens) == 0), logits)
    logits = torch.where(kind == 2, logits * 12.0, logits)
    logits = torch.where(kind == 3, logits[:, :1].expand(shape), logits)
    logits = torch.where(kind == 4, logits.round().clamp(-1, 1), logits)
    impossible = (torch.rand(shape, generator=generator) < 0.4) & (torch.arange(n_tokens) != 0)
    return torch.where((kind == 5) & impossible, -math.inf, logits)


@pytest.mark.parametrize(
    ("n_tokens", "n_frames", "count"), [(2, 7, 500), (3, 5, 600), (4, 4, 600), (5, 3, 400), (3, 1, 60)]
)
def test_a_wide_beam_finds_the_probability_of_every_text(n_tokens, n_frames, count):
    encoder = CharTextEncoder("abcd"[: n_tokens - 1])
    n_texts = len(alignments(n_tokens, n_frames)[2])
    log_probs = posteriors(hard_logits(n_tokens, n_frames, torch.Generator().manual_seed(n_tokens), count))
    found = {
        engine: BeamSearch(encoder, beam_size=n_texts, n_best=n_texts, engine=engine, **EXACT)(
            log_probs, lengths(log_probs)
        )
        for engine in ENGINES
    }
    for row in range(count):
        expected = exhaustive(log_probs[row])
        best = max(expected.values())
        within_reach = {text: score for text, score in expected.items() if score > best - 600}
        for engine in ENGINES:
            scores = {h.tokens: h.score for h in found[engine][row]}
            assert len(scores) == len(found[engine][row])
            assert scores.keys() >= within_reach.keys()
            for text, score in within_reach.items():
                assert scores[text] == pytest.approx(score, abs=1e-5)
            assert expected[found[engine][row][0].tokens] == pytest.approx(best, abs=1e-6)
        if row % 10 == 0:
            reference = dict(prefix_search(log_probs[row].double().tolist(), n_texts, lambda prefix: 0.0))
            for text, score in within_reach.items():
                assert reference[text] == pytest.approx(score, abs=1e-9)


def same(one, other, timesteps=True):
    for left, right in zip(one, other, strict=True):
        assert [h.tokens for h in left] == [h.tokens for h in right]
        for a, b in zip(left, right, strict=True):
            assert (a.text, a.timesteps if timesteps else ()) == (b.text, b.timesteps if timesteps else ())
            for name in ("score", "acoustic_score", "lm_score"):
                assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-6)


def speech_like(n_frames, n_tokens, seed, batch=4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, n_frames, n_tokens, generator=generator) * 2.0
    logits[:, :, 0] += 3.0 * (torch.rand(batch, n_frames, generator=generator) < 0.6)
    return posteriors(logits)


@pytest.mark.parametrize("beam_size", [1, 2, 7, 30])
def test_a_narrow_beam_is_that_of_the_reference(beam_size):
    encoder = CharTextEncoder("abc e")
    log_probs = speech_like(25, 6, seed=beam_size)
    expected = ReferenceBeamSearch(encoder, beam_size, n_best=beam_size)(log_probs, lengths(log_probs))
    for engine in ENGINES:
        found = BeamSearch(encoder, beam_size, n_best=beam_size, engine=engine, **EXACT)(log_probs, lengths(log_probs))
        same(found, expected, timesteps=False)


@pytest.mark.parametrize("beam_size", [1, 3, 12, 50, 150])
@pytest.mark.parametrize("tokens_per_frame", [None, 20, 9, 2])
def test_tensors_leave_out_no_extension_that_could_enter_the_beam(beam_size, tokens_per_frame):
    encoder = CharTextEncoder("abcdefghijklmnopqrstuvwxyz' ")
    logits = torch.randn(6, 30, 29, generator=torch.Generator().manual_seed(beam_size))
    logits *= torch.tensor([0.1, 1.0, 3.0, 6.0, 1.0, 3.0])[:, None, None]
    logits[4:, :, 1:4] += 4.0  # a few tokens again and again: repeats, and children of prefixes that are in the beam
    logits[5, 1::2, 0] += 5.0
    options = {"n_best": beam_size, "tokens_per_frame": tokens_per_frame, "beam_threshold": None}
    log_probs = posteriors(logits)
    tensor, compiled = (
        BeamSearch(encoder, beam_size, engine=e, **options)(log_probs, lengths(log_probs)) for e in ENGINES
    )
    same(tensor, compiled)


OPTIONS = [
    {},
    {"tokens_per_frame": 2},
    {"beam_threshold": 3.0},
    {"blank_skip": 0.7},
    {"tokens_per_frame": 3, "beam_threshold": 5.0, "blank_skip": 0.8, "beam_size": 9},
    {"word_score": 0.7},
    {"lm_weight": 0.9, "word_score": 0.3},
    {"lm_weight": 1.5, "hot_words": {"ab": 3.0, "a ce": 2.0}, "blank_skip": 0.9, "beam_size": 17},
    {"hot_words": {"ab": -2.0}},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_both_engines_give_the_same_n_best(options, tmp_path):
    encoder = CharTextEncoder("abc e")
    log_probs = speech_like(60, 6, seed=3)
    if "lm_weight" in options:
        options = {**options, "lm": random_lm(tmp_path / "char.arpa", ["a", "b", "c", "▁", "e"], 3)}
    options = {"beam_size": 12, "n_best": 8, **options}
    tensor, compiled = (
        BeamSearch(encoder, engine=engine, **options)(log_probs, torch.tensor([60, 41, 1, 0])) for engine in ENGINES
    )
    same(tensor, compiled)


def random_lm(path, words, order, seed=0):
    """An ARPA file of arbitrary numbers: every unigram, and some of the longer n-grams whose beginnings are there."""
    random = np.random.default_rng(seed)
    vocabulary = ["<unk>", "<s>", "</s>", *words]
    previous = np.arange(len(vocabulary))[:, None]
    grams = []
    for n in range(1, order + 1):
        scores = -random.uniform(0.1, 3.0, len(previous))
        backoffs = -random.uniform(0.0, 1.0, len(previous)) * (n < order)
        grams.append(Grams(previous.astype(np.int32), scores, backoffs))
        starts = [g for g in previous.tolist() if g[-1] != 2]
        longer = [[*g, w] for g in starts for w in range(2, len(vocabulary)) if random.random() < 0.4]
        longer = [g for g in longer if n == 1 or g[1:] in previous.tolist()]  # KenLM asks for that
        previous = np.array(longer)
    write_arpa(Arpa(vocabulary, grams), path)
    return str(path)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dense", [True, False])
def test_a_token_model_is_added_as_the_formula_says(engine, dense, tmp_path, monkeypatch):
    if not dense:
        monkeypatch.setattr("hw_asr.language_models.ngram._DENSE_ENTRIES", 0)
    encoder = CharTextEncoder("ab ")
    lm = random_lm(tmp_path / "char.arpa", ["a", "b", "▁"], 3)
    model = open_ngram(lm, use_cache=False)
    log_probs = posteriors(hard_logits(4, 4, torch.Generator().manual_seed(0), 60))
    decoder = BeamSearch(encoder, 121, 121, engine, lm=lm, lm_weight=0.8, word_score=0.4, **EXACT)
    for row, hypotheses in enumerate(decoder(log_probs, lengths(log_probs))):
        acoustic = exhaustive(log_probs[row])
        lm_scores = {text: model.score(" ".join("ab▁"[i - 1] for i in text)) for text in acoustic}
        expected = {text: acoustic[text] + 0.8 * lm_scores[text] + 0.4 * len(text) for text in acoustic}
        best = max(expected, key=expected.get)
        assert hypotheses[0].score == pytest.approx(expected[best], abs=1e-5)
        for h in hypotheses:
            if acoustic[h.tokens] > -600:
                assert h.lm_score == pytest.approx(lm_scores[h.tokens], abs=1e-5)
                assert h.acoustic_score == pytest.approx(acoustic[h.tokens], abs=1e-5)
                assert h.score == pytest.approx(expected[h.tokens], abs=1e-5)


def test_the_reference_adds_the_model_in_the_same_way(tmp_path):
    encoder = CharTextEncoder("ab ")
    lm = random_lm(tmp_path / "char.arpa", ["a", "b", "▁"], 3)
    log_probs = speech_like(20, 4, seed=5)
    arguments = {"beam_size": 10, "n_best": 5, "lm": lm, "lm_weight": 0.8, "word_score": 0.4}
    expected = ReferenceBeamSearch(encoder, **arguments)(log_probs, lengths(log_probs))
    same(BeamSearch(encoder, **arguments, **EXACT)(log_probs, lengths(log_probs)), expected, timesteps=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_weight_zero_is_no_model(engine, tmp_path):
    encoder = CharTextEncoder("abc e")
    lm = random_lm(tmp_path / "char.arpa", ["a", "b", "c", "▁", "e"], 3)
    log_probs = speech_like(40, 6, seed=8)
    without = BeamSearch(encoder, 10, 5, engine)(log_probs, lengths(log_probs))
    weightless = BeamSearch(encoder, 10, 5, engine, lm=lm, lm_weight=0.0)(log_probs, lengths(log_probs))
    for left, right in zip(without, weightless, strict=True):
        assert [(h.tokens, h.timesteps) for h in left] == [(h.tokens, h.timesteps) for h in right]
        assert [h.score for h in left] == pytest.approx([h.score for h in right], abs=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_those_of_kenlm(engine, tmp_path):
    kenlm = pytest.importorskip("kenlm")
    encoder = CharTextEncoder("abc e")
    lm = random_lm(tmp_path / "char.arpa", ["a", "b", "c", "▁", "e"], 4)
    log_probs = speech_like(50, 6, seed=9)
    model = kenlm.Model(lm)
    for hypotheses in BeamSearch(encoder, 10, 5, engine, lm=lm)(log_probs, lengths(log_probs)):
        for h in hypotheses:
            words = " ".join("abc▁e"[i - 1] for i in h.tokens)
            expected = sum(score for score, _, _ in model.full_scores(words)) * math.log(10.0)
            assert h.lm_score == pytest.approx(expected, abs=1e-5)


WORDS = ["a", "ab", "ba", "bb"]


@pytest.mark.parametrize("cells", [0, 10**6])
@pytest.mark.parametrize("unknown", ["forbid", "spell"])
def test_words_are_scored_as_the_formula_says(unknown, cells, tmp_path, monkeypatch):
    monkeypatch.setattr("hw_asr.decoders.scoring.lexicon._DENSE_CELLS", cells)
    encoder = CharTextEncoder("ab ")
    lm = random_lm(tmp_path / "word.arpa", ["A", "AB", "BB"], 2)  # in another case, and without one of the words
    (tmp_path / "words.txt").write_text("\n".join(WORDS))
    model = open_ngram(lm, use_cache=False)
    log_probs = posteriors(hard_logits(4, 5, torch.Generator().manual_seed(1), 60))
    decoder = BeamSearch(
        encoder, 400, 400, lm=lm, lm_level="word", lm_weight=0.7, word_score=0.5,
        lexicon=str(tmp_path / "words.txt"), unknown=unknown, unknown_score=-1.5, **EXACT,
    )  # fmt: skip
    for row, hypotheses in enumerate(decoder(log_probs, lengths(log_probs))):
        expected = {}
        for tokens, acoustic in exhaustive(log_probs[row]).items():
            text = encoder.decode(tokens)
            words = text.split(" ") if text else []
            if words and words[-1] == "":
                words.pop()  # one blank may follow the last word
            if "" in words or (unknown == "forbid" and not set(words) <= set(WORDS)):
                continue
            n_unknown = sum(word not in ("a", "ab", "bb") for word in words)
            lm_score = model.score(" ".join(words).upper())
            expected[tokens] = acoustic + 0.7 * lm_score + 0.5 * len(words) - 1.5 * n_unknown
        assert expected[hypotheses[0].tokens] == pytest.approx(max(expected.values()), abs=1e-6)
        for h in hypotheses:
            assert h.score == pytest.approx(expected[h.tokens], abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_hot_words_count_where_they_are_whole_words(engine):
    encoder = CharTextEncoder("ab ")
    boosts = {"ab": 2.0, "a b": 1.0, "b": 0.5}
    log_probs = posteriors(hard_logits(4, 5, torch.Generator().manual_seed(2), 60))
    decoder = BeamSearch(encoder, 364, 364, engine, hot_words=boosts, **EXACT)
    for row, hypotheses in enumerate(decoder(log_probs, lengths(log_probs))):
        acoustic = exhaustive(log_probs[row])
        for h in hypotheses:
            padded = f" {encoder.decode(h.tokens)} "
            bonus = sum(
                boost * sum(padded.startswith(f" {word} ", i) for i in range(len(padded)))
                for word, boost in boosts.items()
            )
            assert h.score == pytest.approx(acoustic[h.tokens] + bonus, abs=1e-5)
            assert h.acoustic_score == pytest.approx(acoustic[h.tokens], abs=1e-5)


def test_where_no_whole_word_fits_a_part_of_one_is_better_than_nothing(tmp_path):
    encoder = CharTextEncoder("ab ")
    (tmp_path / "words.txt").write_text("ab\n")
    log_probs = torch.tensor([[[-math.inf, 0.0, -math.inf, -math.inf]]])
    (hypotheses,) = BeamSearch(encoder, lexicon=str(tmp_path / "words.txt"))(log_probs, torch.tensor([1]))
    assert [h.text for h in hypotheses] == ["a"]


@pytest.mark.parametrize(
    "options", [{"engine": "tensor"}, {"engine": "compiled"}, {"engine": "compiled", "n_threads": 3}]
)
def test_padding_and_company_change_nothing(options):
    encoder = CharTextEncoder("abc e")
    log_probs = speech_like(50, 6, seed=11, batch=5)
    n_frames = torch.tensor([50, 0, 31, 50, 7])
    decoder = BeamSearch(encoder, 15, 4, blank_skip=0.9, **options)
    alone = [decoder(log_probs[i : i + 1, :n], torch.tensor([n]))[0] for i, n in enumerate(n_frames.tolist())]
    for i, n in enumerate(n_frames.tolist()):
        log_probs[i, n:] = math.nan
    same(decoder(log_probs, n_frames), alone)
    assert [(h.text, h.tokens, h.score) for h in alone[1]] == [("", (), 0.0)]


def test_long_utterances_keep_their_precision():
    encoder = CharTextEncoder("abc")
    log_probs, n_frames = speech_like(2000, 4, seed=12, batch=1), torch.tensor([2000])
    expected = ReferenceBeamSearch(encoder, 6, n_best=6)(log_probs, n_frames)
    for engine in ENGINES:
        same(BeamSearch(encoder, 6, 6, engine, **EXACT)(log_probs, n_frames), expected, timesteps=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_beam_one_is_not_worse_than_the_best_path(engine):
    encoder = CharTextEncoder("abcdefg")
    log_probs = posteriors(torch.randn(20, 40, 8, generator=torch.Generator().manual_seed(1)) * 6.0)
    for row, (hypothesis,) in enumerate(BeamSearch(encoder, 1, engine=engine)(log_probs, lengths(log_probs))):
        path = log_probs[row].max(dim=1)
        greedy = tuple(token for token, _ in itertools.groupby(path.indices.tolist()) if token)
        assert hypothesis.acoustic_score >= path.values.sum().item() - 0.1 or hypothesis.tokens == greedy


@pytest.mark.parametrize("engine", ENGINES)
def test_certain_posteriors_give_their_text_and_frames(engine):
    encoder = CharTextEncoder("ab ")
    path = [0, 1, 1, 0, 1, 3, 2, 2]
    log_probs = torch.full((1, len(path), 4), -math.inf)
    log_probs[0, range(len(path)), path] = 0.0
    (hypotheses,) = BeamSearch(encoder, n_best=3, engine=engine)(log_probs, torch.tensor([len(path)]))
    assert [(h.text, h.score, h.timesteps) for h in hypotheses] == [("aa b", 0.0, (1, 4, 5, 6))]


@pytest.mark.parametrize("decoder", [GreedyDecoder, BeamSearch, ReferenceBeamSearch])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x + 0.1, "utterance 0 of the batch, frame 0: the probabilities do not sum to one"),
        (lambda x: x[:, :, :-1], r"expected log_probs \(B, T, 4\)"),
        (lambda x: x * math.nan, "do not sum to one"),
        (lambda x: x[:, :3], "claims 5 frames of 3"),
    ],
)
def test_what_is_no_posterior_is_refused(decoder, change, message):
    log_probs = speech_like(5, 4, seed=0, batch=1)
    with pytest.raises(DataError, match=message):
        decoder(CharTextEncoder("ab "))(change(log_probs), torch.tensor([5]))


def test_options_that_do_not_fit_are_named(tmp_path):
    encoder = CharTextEncoder("abc e")
    words = random_lm(tmp_path / "word.arpa", ["abc", "cab", "bee"], 2)
    chars = random_lm(tmp_path / "char.arpa", ["a", "b", "c", "▁", "e"], 2)
    with pytest.raises(ConfigError, match="scores tokens only"):
        BeamSearch(encoder, engine="tensor", lm=words)
    for decoder, level in ((BeamSearch, {"lm_level": "token"}), (ReferenceBeamSearch, {})):
        with pytest.raises(ConfigError, match=r"its words are like \['abc', 'cab', 'bee'\], the tokens like \['a'"):
            decoder(encoder, lm=words, **level)
    with pytest.raises(ConfigError, match="lm_level 'word' needs"):
        BeamSearch(encoder, lm_level="word")
    with pytest.raises(ConfigError, match="words cannot be separated"):
        BeamSearch(CharTextEncoder("abce"), lm=words, lm_level="word")
    with pytest.raises(ConfigError, match="hot_words: 'xyz' cannot be spelled"):
        BeamSearch(encoder, hot_words={"xyz": 1.0})
    with pytest.raises(ConfigError, match="lexicon: works with"):
        BeamSearch(encoder, lm=chars, lm_level="token", lexicon=words)
    with pytest.raises(DataError, match=r"missing\.txt: cannot be read"):
        BeamSearch(encoder, lexicon=str(tmp_path / "missing.txt"))


def test_an_empty_batch_has_no_hypotheses():
    for engine in ENGINES:
        assert (
            BeamSearch(CharTextEncoder("ab "), engine=engine)(torch.zeros(0, 5, 4), torch.zeros(0, dtype=torch.int64))
            == []
        )


@pytest.mark.parametrize(("n_frames", "blank_skip", "warnings"), [(2000, 0.99, 1), (2000, 0.999, 0), (400, 0.99, 0)])
def test_skipped_blanks_on_a_long_recording_are_warned_of_once(n_frames, blank_skip, warnings, caplog):
    encoder = CharTextEncoder()
    decoder = BeamSearch(encoder, 2, blank_skip=blank_skip)
    log_probs = torch.full((1, n_frames, len(encoder)), -20.0)
    log_probs[:, :, 0] = 0.0
    for _ in range(2):
        decoder(log_probs.log_softmax(-1), torch.tensor([n_frames]))
    assert sum("costs accuracy" in record.message for record in caplog.records) == warnings

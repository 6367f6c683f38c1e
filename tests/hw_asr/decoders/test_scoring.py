"""What language models, lexicons and hot words may add, with the files that people have."""

import logging
import math

import pytest
import torch

from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.flashlight import FlashlightBeamSearch
from hw_asr.decoders.scoring.fusion import known_words
from hw_asr.decoders.scoring.lexicon import say_once, spell
from hw_asr.decoders.scoring.tokens import describe_tokens
from hw_asr.language_models.arpa import write_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kneser_ney import estimate
from hw_asr.text_encoders.characters import ENGLISH, CharTextEncoder
from hw_base.errors import ConfigError

pytest.importorskip("numba", reason="compiles BeamSearch")
LETTERS = [letter for letter in ENGLISH if letter.isalpha()]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    say_once.cache_clear()


@pytest.fixture
def encoder():
    return CharTextEncoder()


def arpa(path, *unigrams):
    """A file of unigrams ``word`` or ``(word, log10 probability)``."""
    rows = [(word, -2.0) if isinstance(word, str) else word for word in (("<unk>", -3.0), ("</s>", -1.0), *unigrams)]
    lines = [f"{probability}\t{word}" for word, probability in rows]
    path.write_text("\n".join(["\\data\\", f"ngram 1={len(rows)}", "", "\\1-grams:", *lines, "", "\\end\\", ""]))
    return str(path)


def posteriors(encoder, text):
    ids = encoder.encode(text)
    probability = torch.full((2 * len(ids), len(encoder)), 1e-3)
    for i, token in enumerate(ids):
        probability[2 * i, token] = probability[2 * i + 1, 0] = 0.7
    log_probs = probability.div(probability.sum(-1, keepdim=True)).log()[None]
    return log_probs, torch.tensor([log_probs.shape[1]])


def words_of(name, encoder, lm):
    decoder = BeamSearch(encoder, lm=lm) if name == "BeamSearch" else FlashlightBeamSearch(encoder, lm=lm)
    return decoder.fusion.units == 2 if name == "BeamSearch" else decoder.has_words


@pytest.mark.parametrize("name", ["BeamSearch", "FlashlightBeamSearch"])
def test_a_model_of_words_that_knows_every_letter_is_one_of_words(name, encoder, tmp_path):
    if name == "FlashlightBeamSearch":
        pytest.importorskip("flashlight.lib.text", reason="is FlashlightBeamSearch")
        pytest.importorskip("kenlm", reason="scores words")
    texts = [letter.split() for letter in LETTERS] + [["the", "cat", "sat", "on", "a", "mat"]] * 30
    write_arpa(estimate(texts, order=2)[0], tmp_path / "lm.arpa")
    assert words_of(name, encoder, str(tmp_path / "lm.arpa"))


def test_a_model_of_spelled_letters_is_one_of_words(encoder, tmp_path):
    lm = arpa(tmp_path / "spelling.arpa", *LETTERS)
    assert words_of("BeamSearch", encoder, lm)


def test_a_model_of_letters_that_knows_others_is_one_of_tokens(encoder, tmp_path):
    others = [(symbol, -4.0) for symbol in "0123456789$%&+=#@\u00e9\u044f\u0436\u4e2d\u6587\u00df<>[]{}"]
    lm = arpa(tmp_path / "letters.arpa", *LETTERS, "\u2581", *others)
    assert not words_of("BeamSearch", encoder, lm)


def test_the_level_that_was_found_is_said(encoder, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        BeamSearch(encoder, lm=arpa(tmp_path / "w.arpa", "cat", "dog"))
        BeamSearch(encoder, lm=arpa(tmp_path / "t.arpa", *LETTERS, "\u2581"))
    assert f"{tmp_path / 'w.arpa'}: a language model of words, found by lm_level 'auto'" in caplog.text
    assert f"{tmp_path / 't.arpa'}: a language model of tokens, found by lm_level 'auto'" in caplog.text


def test_a_word_model_is_refused_where_tokens_are_asked_for(encoder, tmp_path):
    lm = arpa(tmp_path / "w.arpa", "the", "cat", *((letter, -5.0) for letter in LETTERS))
    with pytest.raises(ConfigError, match="does not score the tokens"):
        BeamSearch(encoder, lm=lm, lm_level="token")


WORDS = [
    "us",
    "u.s.",
    "4th",
    "covid19",
    "mother-in-law",
    "x-ray",
    "etc.",
    "\u0434\u0430",
    "Don\u2019t",
    "caf\u00e9",
    "a&b",
    "c++",
]


def test_a_word_is_never_bent_into_another(encoder, tmp_path):
    model = open_ngram(arpa(tmp_path / "w.arpa", *((word, -1.0 - i / 10) for i, word in enumerate(reversed(WORDS)))))
    forms = known_words(model, encoder)
    assert {form: model.vocabulary[i] for form, i in forms.items()} == {
        "us": "us", "don't": "Don\u2019t", "cafe": "caf\u00e9",
    }  # fmt: skip
    assert set(spell(WORDS, encoder, describe_tokens(encoder))) == {"us", "don't", "cafe"}


def test_a_word_keeps_its_own_score_beside_a_likelier_one_that_is_written_alike(encoder, tmp_path):
    model = open_ngram(arpa(tmp_path / "w.arpa", ("r\u00e9sum\u00e9", -0.5), ("resume", -3.0), ("RESUME", -1.0)))
    assert model.vocabulary[known_words(model, encoder)["resume"]] == "resume"


def test_words_that_cannot_be_spelled_are_counted_and_named(encoder, tmp_path, caplog):
    (tmp_path / "words.txt").write_text("us\n4th\n")
    with caplog.at_level(logging.INFO):
        BeamSearch(encoder, lm=arpa(tmp_path / "w.arpa", *WORDS), lexicon=str(tmp_path / "words.txt"))
    assert "w.arpa: 9 of 14 words cannot be spelled with this vocabulary and are never written: 'u.s.'" in caplog.text
    assert "words.txt: 1 of 2 words cannot be spelled" in caplog.text


@pytest.mark.parametrize("phrase", ["4th", "\u043c\u0438\u0440", "route 66"])
def test_a_hot_word_with_a_character_that_cannot_be_spelled_is_refused(encoder, phrase):
    with pytest.raises(ConfigError, match="cannot be spelled, the vocabulary lacks"):
        BeamSearch(encoder, hot_words={phrase: 1.0})


def test_two_hot_words_that_are_spelled_alike_are_refused(encoder):
    with pytest.raises(ConfigError, match="'CAT' is spelled 'cat', which has another bonus"):
        BeamSearch(encoder, hot_words={"cat": 1.0, "CAT": 2.0})


@pytest.mark.parametrize("engine", ["compiled", "tensor"])
@pytest.mark.parametrize("weight", [1e3, 1e7, -1e7])
def test_a_large_hot_word_weight_keeps_scores_finite(encoder, engine, weight):
    decoder = BeamSearch(encoder, hot_words={"cat": weight}, engine=engine)
    best = decoder(*posteriors(encoder, "the cat sat"))[0][0]
    assert math.isfinite(best.score)
    assert ("cat" in best.text.split()) == (weight > 0)


@pytest.mark.parametrize("option", ["lm_weight", "word_score", "unknown_score"])
@pytest.mark.parametrize("value", [1e7, math.nan, math.inf])
def test_a_weight_that_no_score_survives_is_refused(encoder, tmp_path, option, value):
    lm = arpa(tmp_path / "w.arpa", "cat")
    with pytest.raises(ConfigError, match=f"{option}: expected at most"):
        BeamSearch(encoder, lm=lm, **{option: value})


def test_a_hot_word_weight_that_is_no_number_is_refused(encoder):
    with pytest.raises(ConfigError, match="the bonus of 'cat' must be a finite number, found nan"):
        BeamSearch(encoder, hot_words={"cat": math.nan})


def test_rare_words_with_a_large_model_weight_keep_scores_finite(encoder, tmp_path):
    lm = arpa(tmp_path / "w.arpa", ("cat", -99.0), ("sat", -99.0))
    best = BeamSearch(encoder, lm=lm, lm_weight=50.0)(*posteriors(encoder, "cat sat"))[0][0]
    assert not math.isnan(best.score)


def test_what_flashlight_refuses_is_one_line(encoder, tmp_path):
    pytest.importorskip("flashlight.lib.text", reason="is FlashlightBeamSearch")
    pytest.importorskip("kenlm", reason="reads the model")
    with pytest.raises(ConfigError, match=r"flashlight refuses lm .*w\.arpa") as caught:
        FlashlightBeamSearch(encoder, lm=arpa(tmp_path / "w.arpa", "cat", "dog"), lm_level="word")
    assert "\n" not in str(caught.value)

import json
import math
import os
import re
import shutil

import numpy as np
import pytest
import torch

from hw_asr.language_models.arpa import read_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kneser_ney import FALLBACK_DISCOUNTS, estimate
from hw_asr.train_lm import main
from hw_base import checkpoint
from hw_base.audio import io as audio
from hw_base.config.resolve import load
from hw_base.errors import ConfigError, DataError
from hw_base.runs.experiment import Experiment
from tests.recognizers import save_random

# What lmplz (KenLM 0.3.0) writes for `skewed_text()` with -o 3, and with --prune 0 1 1: discounts; for each order the
# number of n-grams, the sums of their log10 probabilities and of their backoffs; some entries.
LMPLZ_DISCOUNTS = [(0.57652, 1.16091, 2.38818), (0.805537, 1.21125, 2.04021), (0.901899, 1.06901, 1.98536)]
LMPLZ = {
    (): {
        "sums": [(482, -1386.589923, -53.101842), (1431, -2249.542720, -72.369797), (1863, -1883.471659, 0.0)],
        "<unk>": (-3.1183162, 0.0),
        "</s>": (-0.9833241, 0.0),
        "w0": (-0.74790627, -0.36329323),
        "w3": (-1.8191488, -0.22470921),
        "w2 </s>": (-0.7209387, 0.0),
        "w0 w0": (-0.5643642, -0.52206784),
        "<s> w1": (-1.5077884, -0.122385),
        "w0 w1": (-1.4336002, -0.23102815),
        "<s> w0 w0": (-0.27947578, 0.0),
        "w0 w1 w0": (-0.3282139, 0.0),
    },
    (0, 1, 1): {
        "sums": [(482, -1386.589923, -13.603261), (266, -405.838370, -17.518396), (153, -138.150850, 0.0)],
        "w0": (-0.74790627, -0.31179482),
        "w3": (-1.8191488, -0.15303488),
        "w2 </s>": (-0.6973582, 0.0),
        "w0 w0": (-0.5491127, -0.4940001),
        "<s> w1": (-1.4916046, -0.087857015),
        "w0 w1": (-1.4187186, -0.19363342),
        "<s> w0 w0": (-0.26689252, 0.0),
        "w0 w1 w0": (-0.30367082, 0.0),
    },
}
TEXT = "the cat sat on the mat\nthe dog sat on the log\na cat and a dog\nthe cat ate\nthe dog ran on the mat\n"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def skewed_text():
    """400 sentences of words whose frequencies fall steeply, from a congruential generator."""
    state = 1

    def draw(n):
        nonlocal state
        state = (state * 1103515245 + 12345) % 2**31
        return int(n * (state / 2**31) ** 8)

    return [[f"w{draw(900)}" for _ in range(2 + draw(40))] for _ in range(400)]


def as_dict(grams, vocabulary):
    rows = zip(grams.words.tolist(), grams.log10_prob.tolist(), grams.log10_backoff.tolist(), strict=True)
    return {" ".join(vocabulary[i] for i in ids): (probability, backoff) for ids, probability, backoff in rows}


@pytest.mark.parametrize("prune", LMPLZ)
def test_the_model_is_that_of_lmplz(prune):
    arpa, discounts = estimate(skewed_text(), 3, prune)
    for ours, theirs in zip(discounts, LMPLZ_DISCOUNTS, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    expected = dict(LMPLZ[prune])
    for grams, (count, probabilities, backoffs) in zip(arpa.grams, expected.pop("sums"), strict=True):
        found = as_dict(grams, arpa.vocabulary)
        assert len(grams.words) == count
        assert grams.log10_backoff.sum() == pytest.approx(backoffs, abs=1e-6 * count)
        start = found.get("<s>", (0.0, 0.0))[0]
        assert grams.log10_prob.sum() - start == pytest.approx(probabilities, abs=1e-6 * count)
        for text in found.keys() & expected.keys():
            assert found[text] == pytest.approx(expected.pop(text), abs=1e-6)
    assert not expected


@pytest.mark.parametrize("prune", [(), (0, 1), (0, 0, 3)])
def test_after_every_context_the_words_sum_to_one(prune, tmp_path):
    text = skewed_text()[:60]
    path = tmp_path / "lm.arpa"
    (tmp_path / "text").write_text("\n".join(map(" ".join, text)))
    arguments = ["--text", str(tmp_path / "text"), "--order", "3", "-o", str(path)]
    assert main([*arguments, *(["--prune", *map(str, prune)] if prune else [])]) == 0
    model = open_ngram(path)
    words = [i for i, word in enumerate(model.vocabulary) if word != "<s>"]
    states = [0, model.start_state]
    for sentence in text[:5]:
        for word in sentence:
            states.append(model.score_word(states[-1], model.vocabulary.index(word))[1])
    for state in states:
        assert sum(math.exp(model.score_word(state, word)[0]) for word in words) == pytest.approx(1.0, abs=1e-5)


def test_a_tiny_text_takes_fixed_discounts_or_is_refused():
    sentences = [line.split() for line in TEXT.splitlines()]
    arpa, discounts = estimate(sentences, 2)
    assert discounts[0] == FALLBACK_DISCOUNTS
    with pytest.raises(DataError, match="discounts of order 1"):
        estimate(sentences, 2, fallback=False)
    # "sat" is followed by "on" alone, twice: (2 - D2) / 2 for the pair, and D2 / 2 for P(on), which two words precede.
    taken = discounts[1][1]
    bigram, unigrams = as_dict(arpa.grams[1], arpa.vocabulary)["sat on"], as_dict(arpa.grams[0], arpa.vocabulary)
    assert 10 ** bigram[0] == pytest.approx((2 - taken) / 2 + taken / 2 * 10 ** unigrams["on"][0], abs=1e-9)
    # Distinct pairs by their second word: 22 in all; one, two and three or more pairs give their discounts to all 13.
    pairs = {pair for s in sentences for pair in zip(["<s>", *s], [*s, "</s>"], strict=True)}
    before = [sum(second == word for _, second in pairs) for word in {second for _, second in pairs}]
    share = sum((0.5, 1.0, 1.5)[min(n, 3) - 1] for n in before) / len(pairs) / (len(before) + 1)
    assert 10 ** unigrams["on"][0] == pytest.approx((2 - 1.0) / len(pairs) + share, abs=1e-9)
    assert 10 ** unigrams["<unk>"][0] == pytest.approx(share, abs=1e-9)


def test_kenlm_reads_the_file_and_scores_alike(tmp_path):
    kenlm = pytest.importorskip("kenlm")
    (tmp_path / "text").write_text("\n".join(map(" ".join, skewed_text())))
    path = tmp_path / "lm.arpa"
    assert main(["--text", str(tmp_path / "text"), "--order", "4", "--prune", "0", "0", "1", "-o", str(path)]) == 0
    theirs, ours = kenlm.Model(str(path)), open_ngram(path)
    for sentence in ["w0 w1 w0", "w5 w5 w5 w0", "w0 unheard w0", "", *map(" ".join, skewed_text()[:20])]:
        expected = sum(score for score, _, _ in theirs.full_scores(sentence)) * math.log(10)
        assert ours.score(sentence) == pytest.approx(expected, abs=1e-5)


def test_perplexity_is_the_formula(tmp_path, capsys):
    text, held_out, path = tmp_path / "text", tmp_path / "held-out", tmp_path / "lm.arpa"
    text.write_text(TEXT)
    held_out.write_text("the cat sat\n\nthe bird ate\n")
    assert main(["--text", str(text), "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["--perplexity", str(held_out), "-o", str(path)]) == 0
    report = json.loads(capsys.readouterr().out)
    model = open_ngram(path)
    total = model.score("the cat sat") + model.score("the bird ate")
    assert report["perplexity"] == pytest.approx(math.exp(-total / 8))
    assert (report["units"], report["unknown"]) == (8, 1)
    assert report["perplexity_known"] < report["perplexity"]


def test_characters_with_and_without_a_text_encoder(tmp_path):
    text, path, saved = tmp_path / "text", tmp_path / "lm.arpa", tmp_path / "checkpoint.pth"
    text.write_text("The  cat\nA  cat sat!\n")
    assert main(["--text", str(text), "--level", "char", "--order", "2", "-o", str(path)]) == 0
    assert {"T", "h", "▁", "!"} <= set(read_arpa(path).vocabulary)
    save_random(saved, ["text_encoder={type: CharTextEncoder, args: {alphabet: ' acehst'}}"])
    arguments = ["--text", str(text), "--text-encoder", str(saved), "--order", "2", "-o", str(path)]
    assert main([*arguments, "--level", "char"]) == 0
    assert set(read_arpa(path).vocabulary) == {"<unk>", "<s>", "</s>", *"▁acehst"}
    assert main(arguments) == 0
    assert set(read_arpa(path).vocabulary) == {"<unk>", "<s>", "</s>", "the", "cat", "a", "sat"}


def test_lmplz_is_used_where_it_is_asked_for(tmp_path, monkeypatch, capsys):
    (tmp_path / "text").write_text(TEXT)
    arguments = ["--text", str(tmp_path / "text"), "-o", str(tmp_path / "lm.arpa"), "--lmplz"]
    if shutil.which("lmplz"):
        assert main(arguments) == 0
        assert "cat" in read_arpa(tmp_path / "lm.arpa").vocabulary
    monkeypatch.setenv("PATH", os.devnull)
    assert main(arguments) == 2
    assert "there is no lmplz on the PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--order", "0"], "--order: expected 1 or more, found 0"),
        (["--level", "sentencepiece"], "needs --text-encoder"),
        (["--text", "/no/such/file"], "/no/such/file: cannot be read"),
        (["--prune", "1"], "the threshold of unigrams is 0"),
        (["--prune", "0", "2", "1"], r"may not fall from one order to the next, found \[0, 2, 1\]"),
        (["--prune", "0", "1", "1", "1"], "4 thresholds for a model of order 3"),
    ],
)
def test_mistakes_are_named(change, message, tmp_path, capsys):
    (tmp_path / "text").write_text(TEXT)
    assert main(["--text", str(tmp_path / "text"), "-o", str(tmp_path / "lm.arpa"), *change]) == 2
    assert re.search(message, capsys.readouterr().err)


def own_config(folder, **sections):
    """Utterances with transcripts, divided by their digests, and the config that names them."""
    for i, text in enumerate(f"{TEXT}{TEXT}".splitlines()):
        audio.save(folder / "corpus" / "audio" / f"{i}.wav", 0.1 * torch.ones(8000), 16000)
        path = folder / "corpus" / "transcriptions" / f"{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.upper())
    parts = {
        name: {"datasets": [{"type": "CustomDir", "args": {"root": str(folder / "corpus"), "part": name}}]}
        for name in ("train", "val", "test")
    }
    config = {
        "task": "asr",
        "name": "lm",
        "data": parts,
        "model": "DeepSpeech2",
        "optimizers": {"model": {"type": "AdamW"}},
        "trainer": {"max_steps": 1},
        **sections,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder / "config.json")


@pytest.mark.parametrize("level", ["word", "char", "sentencepiece"])
def test_a_config_gives_the_transcripts_of_its_training_split(level, tmp_path):
    """As the same texts in a file do, after the normalization of the config's text encoder."""
    pieces = {"text_encoder": {"type": "SentencePieceTextEncoder", "args": {"vocab_size": 30}}}
    config = own_config(tmp_path, **(pieces if level == "sentencepiece" else {}))
    order = ["--order", "2", "--level", level]
    assert main(["-c", config, *order, "-o", str(tmp_path / "config.arpa")]) == 0
    split = Experiment(load(config), torch.device("cpu")).split("train", evaluation=False)
    texts = [record.text.lower() for record in split.records]
    assert 3 <= len(texts) < 10
    (tmp_path / "text").write_text("\n".join(texts))
    if level == "sentencepiece":
        save_random(tmp_path / "tokens.pth", [f"text_encoder={json.dumps(pieces['text_encoder'])}"], texts)
        order += ["--text-encoder", str(tmp_path / "tokens.pth")]
    assert main(["--text", str(tmp_path / "text"), *order, "-o", str(tmp_path / "text.arpa")]) == 0
    assert (tmp_path / "config.arpa").read_text() == (tmp_path / "text.arpa").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--split", "test"], "--split test: is kept for the test"),
        (["--split", "vla"], "--split vla: the config has no such split. Did you mean 'val'?"),
        (["--text", "text"], "leave out one of the two"),
    ],
)
def test_a_split_that_must_not_be_read_is_refused(change, message, tmp_path, capsys):
    assert main(["-c", own_config(tmp_path), "-o", str(tmp_path / "lm.arpa"), *change]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "lm.arpa").exists()


def test_marks_and_empty_texts_are_refused():
    with pytest.raises(DataError, match="line 2: <s> is a mark of the model"):
        estimate([["a"], ["<s>", "b"]], 2)
    with pytest.raises(DataError, match="there are no words"):
        estimate([[], []], 2)
    with pytest.raises(ConfigError, match="unigrams"):
        estimate([["a"]], 2, (2,))


def test_a_checkpoint_without_a_text_encoder_is_refused(tmp_path, capsys):
    checkpoint.save(tmp_path / "checkpoint.pth", {"format": checkpoint.FORMAT, "model": {"x": np.float64(1).item()}})
    (tmp_path / "text").write_text(TEXT)
    arguments = ["--text", str(tmp_path / "text"), "-o", str(tmp_path / "lm.arpa")]
    assert main([*arguments, "--text-encoder", str(tmp_path / "checkpoint.pth")]) == 2
    assert "no config, text_encoder in it; is it the checkpoint of a training run" in capsys.readouterr().err

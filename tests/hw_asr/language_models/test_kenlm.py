"""KenLM's binaries against the ARPA model that they were made of, and against KenLM itself.

``kenlm/*.binary`` are what ``build_binary`` of KenLM 0.3.0 makes of ``model()``, written by ``write_arpa``:
``probing MODEL probing.binary``, ``-r "1.arpa 2.arpa 3.arpa" probing`` for ``rest`` (lower orders estimated alone),
``trie``, ``-q 5 -b 4 trie``, ``-a 22 trie`` and both for the tries. ``no_words.binary`` is a trie built with ``-v``.
"""

import math
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_asr.decoders.beam import BeamSearch
from hw_asr.decoders.flashlight import FlashlightBeamSearch
from hw_asr.language_models.arpa import Arpa, Grams
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kenlm import probing as kenlm_probing
from hw_asr.language_models.kenlm.binary import is_kenlm_binary, read_kenlm
from hw_asr.language_models.kneser_ney import estimate
from hw_asr.language_models.ngram import NgramModel
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.errors import DataError

FOLDER = Path(__file__).parent / "kenlm"
EXACT = ("probing", "trie", "array")
QUANTIZED = ("quantized", "quantized_array")
WORDS = ["▁", "a", "b", "c", "d", "é"]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sentences(seed, count):
    drawn = random.Random(seed)
    return [[WORDS[int(6 * drawn.random() ** 2)] for _ in range(drawn.randrange(12))] for _ in range(count)]


def model(order=4):
    """A 4-gram model that lacks some ends of its n-grams, as pruned models may, but no context."""
    arpa, _ = estimate(sentences(0, 60), order)
    kept = [arpa.grams[0]]
    for grams, longer in zip(arpa.grams[1:], [*arpa.grams[2:], None], strict=True):
        contexts = set() if longer is None else set(map(tuple, longer.words[:, :-1].tolist()))
        rows = [i for i, words in enumerate(grams.words.tolist()) if i % 3 or tuple(words) in contexts]
        kept.append(Grams(grams.words[rows], grams.log10_prob[rows], grams.log10_backoff[rows]))
    return Arpa(arpa.vocabulary, kept)


def as_dict(arpa, order):
    grams = arpa.grams[order - 1]
    rows = zip(grams.words.tolist(), grams.log10_prob.tolist(), grams.log10_backoff.tolist(), strict=True)
    return {" ".join(arpa.vocabulary[i] for i in ids): values for ids, *values in rows}


@pytest.mark.parametrize("name", EXACT)
def test_the_ngrams_are_those_of_the_arpa_file(name):
    expected, found = model(), read_kenlm(FOLDER / f"{name}.binary")
    assert sorted(found.vocabulary) == sorted(expected.vocabulary)
    for order in range(1, 5):
        left, right = as_dict(found, order), as_dict(expected, order)
        added = left.keys() - right.keys()
        assert right.keys() <= left.keys()
        for text, values in right.items():
            assert left[text] == pytest.approx(values, abs=1e-6), text
        assert bool(added) == (order in (2, 3)), "KenLM adds the ends that are missing"


@pytest.mark.parametrize("name", EXACT)
def test_sentences_score_as_with_the_arpa_file(name):
    expected, found = NgramModel.from_arpa(model()), open_ngram(FOLDER / f"{name}.binary")
    for units in sentences(1, 300):
        text = " ".join([*units, "unheard", *units[:2]])
        assert found.score(text) == pytest.approx(expected.score(text), abs=1e-5)
        assert found.score(text, end=False) == pytest.approx(expected.score(text, end=False), abs=1e-5)


@pytest.mark.parametrize("name", [*EXACT, *QUANTIZED, "rest"])
def test_sentences_score_as_in_kenlm(name):
    kenlm = pytest.importorskip("kenlm")
    path = FOLDER / f"{name}.binary"
    theirs, ours = kenlm.Model(str(path)), open_ngram(path)
    for units in sentences(2, 300):
        text = " ".join([*units, "unheard", *units[:2]])
        for end in (True, False):
            expected = sum(score for score, _, _ in theirs.full_scores(text, eos=end)) * math.log(10)
            assert ours.score(text, end) == pytest.approx(expected, abs=1e-5)


def test_quantized_values_are_few_and_near():
    expected = as_dict(model(), 4)
    found = as_dict(read_kenlm(FOLDER / "quantized.binary"), 4)
    assert found.keys() == expected.keys()
    assert len({values[0] for values in found.values()}) == 32
    errors = [abs(found[text][0] - expected[text][0]) for text in expected]
    assert 0 < np.mean(errors) < 0.05


@pytest.mark.parametrize("name", ["probing", "quantized_array"])
def test_decoders_take_it(name):
    pytest.importorskip("numba")
    encoder = CharTextEncoder(" abcdé")
    path = str(FOLDER / f"{name}.binary")
    logits = torch.randn(3, 25, len(encoder), generator=torch.Generator().manual_seed(0)) * 3
    batch = (logits.log_softmax(2), torch.tensor([25, 20, 9]))
    options = {"beam_size": 30, "tokens_per_frame": None, "beam_threshold": None, "lm": path}
    compiled = BeamSearch(encoder, engine="compiled", **options)(*batch)
    tensor = BeamSearch(encoder, engine="tensor", **options)(*batch)
    assert [h[0].tokens for h in compiled] == [h[0].tokens for h in tensor]
    names = ["", "▁", *"abcdé"]
    for hypothesis in (h[0] for h in compiled):
        text = " ".join(names[i] for i in hypothesis.tokens)
        assert hypothesis.lm_score == pytest.approx(open_ngram(path).score(text), abs=1e-4)


@pytest.mark.parametrize("name", ["probing", "rest", "trie", "quantized"])
def test_flashlight_takes_it_whatever_its_size(name, monkeypatch):
    monkeypatch.setattr(kenlm_probing, "_MOST_CANDIDATES", 0)
    kenlm = pytest.importorskip("kenlm")
    pytest.importorskip("flashlight.lib.text")
    encoder, path = CharTextEncoder(" abcdé"), str(FOLDER / f"{name}.binary")
    logits = torch.randn(2, 25, len(encoder), generator=torch.Generator().manual_seed(0)) * 3
    found = FlashlightBeamSearch(encoder, 20, lm=path, lm_weight=0.7)(logits.log_softmax(2), torch.tensor([25, 20]))
    names = ["", "▁", *"abcdé"]
    for (hypothesis,) in found:
        log10 = kenlm.Model(path).score(" ".join(names[i] for i in hypothesis.tokens))
        assert hypothesis.lm_score == pytest.approx(log10 * math.log(10), abs=1e-4)
        assert hypothesis.score == pytest.approx(hypothesis.acoustic_score + 0.7 * hypothesis.lm_score, abs=1e-3)


def test_a_probing_table_of_too_many_words_is_refused(monkeypatch):
    monkeypatch.setattr(kenlm_probing, "_MOST_CANDIDATES", 50)
    with pytest.raises(
        DataError, match=r"probing\.binary: a probing table keeps hashes .* 9 words .*build_binary trie"
    ):
        open_ngram(FOLDER / "probing.binary")


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_number_of_combinations_tried_at_once_changes_nothing(chunk, monkeypatch):
    expected = read_kenlm(FOLDER / "probing.binary")
    monkeypatch.setattr(kenlm_probing, "_CHUNK", chunk)
    for left, right in zip(expected.grams, read_kenlm(FOLDER / "probing.binary").grams, strict=True):
        assert np.array_equal(left.words, right.words)


@pytest.mark.parametrize("name", [*EXACT, *QUANTIZED, "rest"])
@pytest.mark.parametrize("kept", [40, 100, 130, 0.5, 0.9, -3])
def test_a_truncated_file_is_refused(name, kept, tmp_path):
    whole = (FOLDER / f"{name}.binary").read_bytes()
    path = tmp_path / "cut.binary"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    assert is_kenlm_binary(path)
    with pytest.raises(DataError, match=r"cut\.binary.*(cut short|words are not|damaged)"):
        open_ngram(path)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (49, b"4", r"'format version 5' can be read, found 'format version 4'"),
        (60, b"\0\0\0\0", "another kind of machine"),
        (96, b"\x09", "unknown layout 9"),
        (104, b"\x07", "unknown layout"),
        (88, b"\x00", "damaged header"),
    ],
)
def test_a_damaged_header_is_named(offset, value, message, tmp_path):
    content = bytearray((FOLDER / "trie.binary").read_bytes())
    assert struct.unpack_from("<B3xfIB3xI", content, 88)[::2] == (4, 2, 1)
    content[offset : offset + len(value)] = value
    (tmp_path / "lm.binary").write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_ngram(tmp_path / "lm.binary")


@pytest.mark.parametrize("name", ["probing", "array"])
def test_the_unigrams_alone_are_those_of_the_whole(name):
    whole, alone = (read_kenlm(FOLDER / f"{name}.binary", only) for only in (False, True))
    assert (alone.vocabulary, len(alone.grams)) == (whole.vocabulary, 1)
    assert as_dict(alone, 1) == as_dict(whole, 1)


def test_a_file_without_its_words_is_refused():
    with pytest.raises(DataError, match="built without its words: give the ARPA file"):
        open_ngram(FOLDER / "no_words.binary")

import gzip
import math

import numpy as np
import pytest
import torch

from hw_asr.decoders.tensor.ngram import TensorNgram
from hw_asr.language_models import ngram
from hw_asr.language_models.arpa import Arpa, Grams, read_arpa, write_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.ngram import NgramModel
from hw_asr.language_models.pair_table import build_pair_table, places
from hw_base.errors import DataError
from hw_base.storage import cache_folder

SMALL = """
a line that is no part of the model

\\data\\
ngram 1=5
ngram 2=4
ngram 3=2

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.4
-1.2\t</s>
-0.7\tan\t-0.3
-0.9\tox\t-0.2

\\2-grams:
-0.5\t<s> an\t-0.1
-0.6\tan ox\t-0.25
-0.8\tox an
-0.35\tox </s>

\\3-grams:
-0.2\t<s> an ox
-0.15\tan ox </s>

\\end\\
"""


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.arpa"
    path.write_text(SMALL)
    return path


# Each sum worked out by hand: a longest match, or the backoffs down to one.
@pytest.mark.parametrize(
    ("sentence", "log10"),
    [
        ("an ox", -0.5 - 0.2 - 0.15),
        ("", -0.4 - 1.2),
        ("ox an", (-0.4 - 0.9) + -0.8 + (-0.3 - 1.2)),
        ("an an", -0.5 + (-0.1 - 0.3 - 0.7) + (-0.3 - 1.2)),
        ("yak ox", (-0.4 - 1.5) + -0.9 + -0.35),
        ("an ox an", -0.5 - 0.2 + (-0.25 - 0.8) + (-0.3 - 1.2)),
    ],
)
@pytest.mark.parametrize("dense_entries", [0, 20, 10**6])
def test_backing_off_by_hand(small, sentence, log10, dense_entries, monkeypatch):
    monkeypatch.setattr(ngram, "_DENSE_ENTRIES", dense_entries)
    model = open_ngram(small, use_cache=False)
    assert model.score(sentence) == pytest.approx(log10 * math.log(10), abs=1e-6)
    ids = model.word_ids()
    tensors = TensorNgram(model.arrays, model.levels, model.start_state, torch.device("cpu"))
    arc, total = torch.tensor([[tensors.start_arc]]), 0.0
    for word in [*sentence.split(), "</s>"]:
        logp, arc = tensors.score(tensors.state_after(arc), torch.tensor([[ids.get(word, model.unknown_id)]]))
        total += logp.item()
    assert total == pytest.approx(log10 * math.log(10), abs=1e-6)


def test_real_sentences_score_as_in_kenlm(real_data):
    kenlm = pytest.importorskip("kenlm")
    path = real_data / "text" / "mfa_test_lm.arpa"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    theirs, ours = kenlm.Model(str(path)), open_ngram(path)
    ids = ours.word_ids()
    random = np.random.default_rng(0)
    for _ in range(300):
        known = random.choice(ours.vocabulary[3:], size=random.integers(0, 12)).tolist()
        for end in (True, False):
            scores = [score for score, _, _ in theirs.full_scores(" ".join(known), eos=end)]
            ours_score = ours.score_ids([ids[word] for word in known], end)
            assert ours_score == pytest.approx(sum(scores) * math.log(10), abs=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "\\dada\\", r"small\.arpa.*no \\data\\ section|ends before"),
        ("\\end\\", "", "ends before"),
        ("ngram 2=4", "ngram 3=4", "expected the count of 2-grams, found 'ngram 3=4'"),
        ("\\2-grams:", "\\4-grams:", r"line 16: expected \\2-grams:, found"),
        ("an ox\t-0.25", "an ax\t-0.25", "line 18: the word 'ax' is not among the unigrams"),
        ("-0.7\tan", "-0.7x\tan", "line 13: not a number"),
        ("ngram 1=5", "ngram 1=6", r"expected a 1-gram \(row 6 of 6\), found"),
        ("-0.9\tox", "-0.9\tan", "5 unigrams, but only 4 different words"),
        ("-0.6\tan ox\t", "-0.6\tan an\t", "a 3-gram continues 'an ox', which is not a 2-gram"),
        ("-0.7\tan", "0.7\tan", "line 13: a log10 probability must be finite and not above 0"),
        ("-0.7\tan", "nan\tan", "line 13: a log10 probability must be finite"),
        ("an ox\t-0.25", "an ox\tinf", "line 18: .*a back-off finite: '-0.6 an ox inf'"),
        ("-0.2\t<s> an ox", "-inf\t<s> an ox", "line 23: a log10 probability must be finite"),
        ("-0.2\t<s> an ox", "-0.2\t<s> an ox\t-1\t-1", r"expected a 3-gram \(row 1 of 2\)"),
    ],
)
def test_a_damaged_file_is_named_with_its_line(small, old, new, message):
    assert old in SMALL
    small.write_text(SMALL.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        open_ngram(small)


def test_other_files_are_no_models(tmp_path):
    with pytest.raises(DataError, match=r"none\.arpa: cannot read the language model"):
        open_ngram(tmp_path / "none.arpa")
    (tmp_path / "lm.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0more")
    with pytest.raises(DataError, match="the KenLM binary is cut short"):
        open_ngram(tmp_path / "lm.bin")
    (tmp_path / "lm.arpa.gz").write_bytes(b"\x1f\x8bnot gzip")
    with pytest.raises(DataError, match="cannot read the language model"):
        open_ngram(tmp_path / "lm.arpa.gz")


def test_gzip_reads_the_same(small, tmp_path):
    zipped = tmp_path / "small.arpa.gz"
    zipped.write_bytes(gzip.compress(SMALL.encode()))
    assert open_ngram(zipped).score("an ox an yak") == open_ngram(small).score("an ox an yak")


def test_gzip_is_told_by_content_not_by_name(small, tmp_path):
    hidden, plain = tmp_path / "zipped.arpa", tmp_path / "plain.arpa.gz"
    hidden.write_bytes(gzip.compress(SMALL.encode()))
    plain.write_text(SMALL)
    expected = open_ngram(small).score("an ox an yak")
    assert [open_ngram(path).score("an ox an yak") for path in (hidden, plain)] == [expected, expected]


def test_what_is_written_reads_the_same(small, tmp_path):
    first = read_arpa(small)
    write_arpa(first, tmp_path / "again.arpa")
    second = read_arpa(tmp_path / "again.arpa")
    assert second.vocabulary == first.vocabulary
    for one, other in zip(first.grams, second.grams, strict=True):
        for left, right in zip(vars(one).values(), vars(other).values(), strict=True):
            assert np.array_equal(left, right)


def test_the_cache_gives_the_same_model_and_notices_changes(small):
    fresh = open_ngram(small)
    assert len(list((cache_folder() / "language_models").iterdir())) == 1
    cached = open_ngram(small)
    assert (cached.order, cached.vocabulary, cached.levels) == (fresh.order, fresh.vocabulary, fresh.levels)
    assert all(np.array_equal(a, b) for a, b in zip(fresh.arrays, cached.arrays, strict=True))
    small.write_text(SMALL.replace("-0.15", "-0.95"))
    assert open_ngram(small).score("an ox") == pytest.approx((-0.5 - 0.2 - 0.95) * math.log(10))
    for path in (cache_folder() / "language_models").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    assert open_ngram(small).score("an ox") == pytest.approx((-0.5 - 0.2 - 0.95) * math.log(10))


def test_a_cache_that_cannot_be_written_is_done_without(small, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert open_ngram(small).score("an ox") == pytest.approx(-0.85 * math.log(10))


@pytest.mark.parametrize("count", [0, 1, 7, 1000, 200_000])
def test_every_pair_is_found_at_its_place(count):
    keys = np.unique(np.random.default_rng(count).integers(0, 2**50, count))
    table, place = build_pair_table(keys)
    assert np.array_equal(table.keys[place], keys)
    assert (table.keys >= 0).sum() == len(keys)
    first, second = places(keys, len(table.keys))
    assert ((place == first) | (place == second)).all()


def test_a_million_ngrams_take_less_than_100_megabytes():
    random = np.random.default_rng(0)
    n_words = 50_000
    pairs = np.unique(random.integers(0, n_words, (360_000, 2), dtype=np.int32), axis=0)
    triples = np.unique(
        np.concatenate(
            [pairs[random.integers(0, len(pairs), 620_000)], random.integers(0, n_words, (620_000, 1))], axis=1
        ),
        axis=0,
    ).astype(np.int32)
    tables = [np.arange(n_words, dtype=np.int32)[:, None], pairs, triples]
    assert sum(map(len, tables)) > 1_000_000
    words = ["<unk>", "<s>", "</s>", *(f"w{i}" for i in range(n_words - 3))]
    arpa = Arpa(words, [Grams(table, -random.random(len(table)), -random.random(len(table))) for table in tables])
    model = NgramModel.from_arpa(arpa)
    assert model.nbytes() < 100e6
    for row in random.integers(0, len(triples), 50):
        context, word = triples[row, :2].tolist(), int(triples[row, 2])
        state = 0
        for earlier in context:
            state = model.score_word(state, earlier)[1]
        assert model.score_word(state, word)[0] == pytest.approx(arpa.grams[2].log10_prob[row] * math.log(10), abs=1e-6)


def test_a_flipped_bit_anywhere_in_the_cache_changes_nothing(small):
    fresh = open_ngram(small)
    [cached] = (cache_folder() / "language_models").iterdir()
    raw = cached.read_bytes()
    for place in [*range(0, 64), *range(64, len(raw), max(1, len(raw) // 150))]:
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        cached.write_bytes(damaged)
        again = open_ngram(small)
        assert again.vocabulary == fresh.vocabulary
        assert all(np.array_equal(a, b) for a, b in zip(fresh.arrays, again.arrays, strict=True))

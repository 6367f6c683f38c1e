import logging
import math
import pickle

import numpy as np
import pytest
import torch

from hw_base.audio import io as audio
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.split import Limits, Split, item_generator, report_shared
from hw_base.errors import DataError

soundfile = pytest.importorskip("soundfile")
RATE = 8000


def make_item(record, waveform, generator):
    if record.text == "refused":
        raise DataError(f"utterance {record.utterance_id!r}: refused")
    return {"id": record.utterance_id, "waveform": waveform, "draw": torch.rand(3, generator=generator)}


def record(name, duration=1.0, text="a", **extra):
    return Record(name, f"{name}.wav", duration, text, extra=extra)


def indexed(*records, **arguments):
    return Split("train", [BaseDataset(list(records))], make_item, RATE, **arguments)


def ids(split):
    return [kept.utterance_id for kept in split.records]


@pytest.fixture
def corpus(tmp_path):
    """Good files a to e, and one bad of each kind among them; the index believes 0.5 s of all."""
    generator = np.random.default_rng(0)
    broken = {"nan": (100, np.nan), "inf": (100, np.inf)}

    def write(name):
        path = tmp_path / f"{name}.wav"
        samples = generator.uniform(-0.5, 0.5, RATE // 2)
        if name in broken:
            position, value = broken[name]
            samples[position] = value
        samples *= name != "silent"
        lengths = {"cut": 0.3, "header": 0.0, "short": 0.05}
        samples = samples[: int(RATE * lengths.get(name, 0.5))]
        soundfile.write(path, samples, RATE, subtype="FLOAT")
        if name == "html":
            path.write_text("<html>not found</html>")
        if name == "missing":
            path.unlink()
        return Record(name, str(path), 0.1 if name == "short" else 0.5, name.upper())

    def make(*names, **arguments):
        dataset = BaseDataset([write(name) for name in names])
        return Split("train", [dataset], make_item, RATE, **arguments)

    return make


def test_limits_drop_and_report():
    records = [
        record("a", 16.5),
        record("b", 16.0),
        record("c", 99.0),
        record("d", 0.05),
        record("e", 0.0),
        record("f", math.nan),
        record("g", 2.0, "x" * 11),
        record("h", 2.0, "x" * 10),
        record("i", 2.0, None),
        record("j", 2.0, " "),
    ]
    limits = Limits(min_seconds=0.1, max_seconds=16, max_text_length=10)
    split = indexed(*records, limits=limits, needs_text=True, on_bad_data="skip")
    assert ids(split) == ["b", "h"]
    assert split.durations == [16.0, 2.0]
    assert split.report == [
        "train: 2 utterances, 18.0 s; dropped 2 longer than 16 s (longest: c); dropped 1 shorter than 0.1 s "
        "(shortest: d); dropped 2 of no duration (first: e); "
        "dropped 1 with more than 10 characters of text (first: g); dropped 2 without text (first: i)"
    ]
    assert ids(indexed(*records, limits=limits, on_bad_data="skip")) == ["b", "h", "i", "j"]
    assert indexed(record("a", 1800.0), record("b", 1800.0)).report == ["train: 2 utterances, 1.0 h"]
    assert indexed(record("a", 90.0)).report == ["train: 1 utterances, 1.5 min"]


def test_speakers_of_whom_nothing_is_left_are_named(caplog):
    said = {"a": "p1", "b": "p2", "c": "p3", "d": "", "e": "p3"}
    records = [Record(name, f"{name}.wav", 1.0, None if name in "bd" else "x", said[name]) for name in said]
    split = indexed(*records, needs_text=True, on_bad_data="skip")
    assert split.report[0].endswith("dropped 2 without text (first: b); nothing is left of speaker p2")
    # Whom a limit leaves out is no surprise.
    assert "nothing is left" not in indexed(*records, limits=Limits(limit=1)).report[0]
    split.leave_out({"c": "no"})
    assert "nothing is left of" not in caplog.text
    split.leave_out({"a": "no"})
    assert "left out; nothing is left of speaker p1" in caplog.text


def test_report_of_several_datasets():
    datasets = [BaseDataset([record("a")], "one"), BaseDataset([record("b"), record("c", 99.0)], "two")]
    split = Split("val", datasets, make_item, RATE, Limits(max_seconds=16))
    assert split.report[1:] == ["  one: 1 utterances, 1.0 s", "  two: 1 utterances, 1.0 s"]


def test_limit_picks_the_same_ones_and_a_larger_limit_keeps_them():
    records = [record(f"{i:03}") for i in range(100)]
    ten, twenty = (indexed(*records, limits=Limits(limit=n), seed=n) for n in (10, 20))
    assert len(ten) == 10
    assert ids(ten) == sorted(ids(ten))
    assert set(ids(ten)) < set(ids(twenty))
    assert ids(ten) == ids(indexed(*records, limits=Limits(limit=10), seed=99))
    assert ids(ten) != [f"{i:03}" for i in range(10)]
    assert ten.report == ["train: 10 utterances, 10.0 s; left out 90 beyond limit = 10"]
    assert len(indexed(*records, limits=Limits(limit=1000))) == 100


def test_nothing_left():
    with pytest.raises(DataError, match=r"train: 0 utterances.* longer than 1 s \(longest: a\): nothing is left"):
        indexed(record("a", 2.0), limits=Limits(max_seconds=1.0))
    with pytest.raises(DataError, match="train: there are no utterances"):
        indexed()


def test_unreadable_in_the_index():
    records = [record("a", 0.0, audio_error="a.wav: the file is empty"), record("b")]
    with pytest.raises(DataError, match=r"train: utterance 'a': a.wav: the file is empty"):
        indexed(*records)
    split = indexed(*records, on_bad_data="skip")
    assert ids(split) == ["b"]
    assert split.report == ["train: 1 utterances, 1.0 s; dropped 1 unreadable (first: a)"]


def test_repeated_ids():
    twice = [BaseDataset([record("a")]), BaseDataset([record("a")])]
    assert len(Split("train", twice, make_item, RATE)) == 2
    with pytest.raises(DataError, match=r"val: the utterance id 'a' stands for both a.wav and a.wav"):
        Split("val", twice, make_item, RATE, evaluation=True)


def test_items(corpus):
    split = corpus("a", "b")
    assert split[1]["id"] == "b"
    assert torch.equal(split[1]["waveform"], audio.load(split.records[1].audio_path)[0])
    assert split[1]["skipped"] == []
    with pytest.raises(IndexError):
        split[2]
    with pytest.raises(IndexError):
        split[-1]


def test_items_are_resampled(tmp_path):
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 8000)
    record = Record("a", str(tmp_path / "a.flac"), 1.0)
    split = Split("train", [BaseDataset([record])], make_item, 16000)
    assert torch.equal(split[0]["waveform"], audio.load(record.audio_path, 16000)[0])
    assert split[0]["waveform"].shape == (16000,)


def test_randomness_depends_on_seed_epoch_and_index_alone(corpus):
    split = corpus("a", "b", seed=1)
    first = split[(3, 1)]["draw"]
    torch.rand(10)
    split[(5, 0)]
    assert torch.equal(split[(3, 1)]["draw"], first)
    assert torch.equal(split[0]["draw"], split[(0, 0)]["draw"])
    draws = {tuple(torch.rand(3, generator=item_generator(*key)).tolist()) for key in np.ndindex(4, 5, 6)}
    assert len(draws) == 120
    other = corpus("a", "b", seed=2)
    assert not torch.equal(other[(3, 1)]["draw"], first)


BAD = {
    "missing": "there is no such audio file",
    "html": "a web page, not audio",
    "header": "the file holds no samples",
    "nan": "samples are NaN or infinite",
    "inf": "samples are NaN or infinite",
    "cut": "truncated: 0.30 s of audio where the index says 0.50 s",
    "short": "0.050 s of audio is less than min_seconds = 0.1",
    "silent": "nothing but silence",
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_data_fails_and_names_the_utterance(corpus, bad):
    split = corpus("a", bad)
    split[0]
    with pytest.raises(DataError, match=f"train: utterance '{bad}'.*{BAD[bad]}") as caught:
        split[1]
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("set data.train.on_bad_data to skip")


@pytest.mark.parametrize("bad", BAD)
def test_bad_data_is_replaced_in_training(corpus, bad):
    split = corpus("a", bad, "b", on_bad_data="skip")
    item = split[(7, 1)]
    assert item["id"] == "b"
    [(name, reason)] = item["skipped"]
    assert name == bad
    assert BAD[bad] in reason
    # The draws belong to the place in the epoch, not to the utterance that fills it.
    assert torch.equal(item["draw"], torch.rand(3, generator=item_generator(0, 7, 1)))


@pytest.mark.parametrize("bad", BAD)
def test_bad_data_is_left_out_of_evaluation(corpus, bad):
    split = corpus("a", bad, "b", on_bad_data="skip", evaluation=True)
    if bad == "silent":
        assert split[1]["id"] == "silent"
    else:
        assert split[1].keys() == {"skipped"}
        assert split[1]["skipped"][0][0] == bad
    assert split[2]["id"] == "b"


def test_several_bad_in_a_row_wrap_around(corpus):
    split = corpus("a", "nan", "cut", on_bad_data="skip")
    item = split[1]
    assert item["id"] == "a"
    assert [name for name, _ in item["skipped"]] == ["nan", "cut"]


def test_nothing_good_at_all(corpus):
    with pytest.raises(DataError, match=r"2 utterances in a row cannot be used; the first: .*'nan'"):
        corpus("nan", "cut", on_bad_data="skip")[0]


def test_slightly_shorter_than_the_index_is_fine(corpus):
    split = corpus("a")
    for duration, good in [(0.55, True), (0.599, True), (0.61, False)]:
        split.records[0] = Record("a", split.records[0].audio_path, duration)
        if good:
            assert len(split.waveform(0)) == RATE // 2
        else:
            with pytest.raises(DataError, match="truncated"):
                split.waveform(0)


def test_what_make_item_refuses_is_bad_data_too(corpus):
    split = corpus("a", "b", on_bad_data="skip")
    split.records[0] = Record("a", split.records[0].audio_path, 0.5, "refused")
    item = split[0]
    assert item["id"] == "b"
    assert item["skipped"] == [("a", "train: utterance 'a': refused")]


def test_skipped_utterances_are_logged_once(corpus, caplog):
    split = corpus("a")
    with caplog.at_level(logging.WARNING):
        split.note_skipped([("x", "no x"), ("y", "no y")])
        split.note_skipped([("x", "no x")])
    assert split.skipped == {"x": "no x", "y": "no y"}
    assert [entry.getMessage() for entry in caplog.records] == ["skipped: no x", "skipped: no y"]


def test_records_are_frozen_and_picklable():
    original = record("a", phones=[["AH", 0.0, 0.1]])
    assert pickle.loads(pickle.dumps(original)) == original
    with pytest.raises(AttributeError):
        original.text = "b"


def test_features_that_refuse_an_utterance_name_it_and_the_way_out(corpus):
    """Whoever finds the fault, for example features of audio that is too short for one frame."""

    def too_short(record, waveform, generator):
        raise DataError("features: a waveform of 90 samples; at least 257 are needed")

    split = corpus("a", "b")
    split.make_item = too_short
    with pytest.raises(
        DataError, match=r"^train: utterance 'b': features: a waveform .* data\.train\.on_bad_data to skip"
    ):
        split[1]
    split.on_bad_data = "skip"
    split.evaluation = True
    assert split[0]["skipped"] == [
        ("a", "train: utterance 'a': features: a waveform of 90 samples; at least 257 are needed")
    ]


def test_an_absurd_level_is_bad_data(corpus):
    split = corpus("a", "b")
    soundfile.write(split.records[0].audio_path, np.full(4000, 1e20), RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"utterance 'a': .*samples of up to 1e\+20, where \[-1, 1\] is expected"):
        split[0]


@pytest.mark.parametrize("min_seconds", [0.0, 0.1])
def test_a_record_of_no_duration_is_bad_data(min_seconds):
    records = [record("a"), record("none", 0.0)]
    with pytest.raises(DataError, match=r"utterance 'none': none.wav: its duration is 0 s; .*on_bad_data to skip"):
        indexed(*records, limits=Limits(min_seconds=min_seconds))
    split = indexed(*records, limits=Limits(min_seconds=min_seconds), on_bad_data="skip")
    assert ids(split) == ["a"]
    assert "dropped 1 of no duration (first: none)" in split.report[0]


def test_examples_are_one_of_each_voice_before_a_second():
    records = [Record(f"{voice}{i}", "x.wav", 1.0, "a", voice) for voice in "ab" for i in range(3)]
    split = Split("val", [BaseDataset(records)], lambda *_: {}, 16000)
    assert split.examples(3) == ["a0", "b0", "a1"]
    assert split.examples(99) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_splits_that_share_utterances_are_told(caplog):
    training = indexed(record("a"), record("b"))
    report_shared(indexed(record("c")), training)
    assert not caplog.records
    other = indexed(Record("renamed", "./x/../b.wav", 1.0), record("c"), evaluation=True)
    report_shared(other, training)
    assert "1 of 2 utterances are trained on too (first: renamed)" in caplog.text

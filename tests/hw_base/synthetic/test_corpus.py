import json
import os
import signal
import string
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hw_base.errors import ConfigError, DataError
from hw_base.synthetic import sentences
from hw_base.synthetic.corpus import DEFAULT_SIZES, SILENCE, SyntheticSpeech, default_voices, make_plan, tile
from hw_base.synthetic.espeak import Speaker, Utterance
from tests.conftest import ROOT

pytest.importorskip("espeakng_loader", reason="the embedded corpus needs espeakng-loader")
soundfile = pytest.importorskip("soundfile")

REPOSITORY = ROOT
PARTS = ("train", "val", "test")

# Of American English: what espeak-ng gives for the 9000 most frequent words of LibriSpeech, each between two others.
PHONES = r"""
    '0 '3: 'A: 'A@ 'E 'I 'I2 'O2 'O: 'O@ 'OI 'U 'U@ 'V 'a 'aI 'aI3 'aI@ 'aU 'aa 'e@ 'eI 'i: 'i@ 'i@3 'o@ 'oU
    'u: ,0 ,3: ,A: ,A@ ,E ,I ,O2 ,O: ,O@ ,OI ,U ,U@ ,V ,a ,aI ,aU ,aa ,e@ ,eI ,i: ,i@ ,i@3 ,o@ ,oU ,u: 0 3 3:
    ; ? @ @- @2 @L A: A@ D E I I# I2 N O2 O: O@ S T U U@ V Z _ a a# aI aI3 aI@ aU aa b d dZ e@ eI f g h i i:
    i@ i@3 j k l m n n- o@ oU p r r- s t t# t2 tS u: v w z
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def dataset(cache):
    return SyntheticSpeech("train", n_utterances=12, cache_dir=cache)


def files_of(dataset):
    return {Path(record.audio_path).name: Path(record.audio_path).read_bytes() for record in dataset.records}


def folders(cache):
    return sorted(path.name for path in Path(cache).iterdir() if path.is_dir())


def build_in_background(cache, n_utterances):
    code = (
        "from hw_base.synthetic.corpus import SyntheticSpeech\n"
        f"d = SyntheticSpeech('train', n_utterances={n_utterances}, cache_dir={str(cache)!r}, n_processes=2)\n"
        f"assert len(d) == {n_utterances}"
    )
    return subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)


def test_bytes_do_not_depend_on_the_number_of_processes(dataset, tmp_path):
    for n_processes in (1, 2, 5):
        again = SyntheticSpeech(
            "train", n_utterances=12, cache_dir=str(tmp_path / str(n_processes)), n_processes=n_processes
        )
        assert files_of(again) == files_of(dataset)
        assert [(r.text, r.speaker, r.duration, r.extra) for r in again.records] == [
            (r.text, r.speaker, r.duration, r.extra) for r in dataset.records
        ]


def test_records_describe_the_files(dataset):
    assert len({record.utterance_id for record in dataset.records}) == 12
    for record in dataset.records:
        header = soundfile.info(record.audio_path)
        assert (header.samplerate, header.channels, header.subtype) == (16000, 1, "PCM_16")
        assert record.duration == header.frames / 16000
        waveform, rate = dataset.read(record)
        assert rate == 16000
        assert len(waveform) == header.frames
        assert 0.05 < float(waveform.abs().max()) <= 1
        assert record.text
        assert record.speaker in default_voices("train")


@pytest.mark.parametrize("sample_rate", [16000, 22050])
def test_phones_tile_the_utterance(cache, sample_rate):
    for record in SyntheticSpeech("val", n_utterances=24, cache_dir=cache, sample_rate=sample_rate).records:
        phones = record.extra["phones"]
        symbols, starts, ends = zip(*phones, strict=True)
        assert starts[0] == 0.0
        assert ends[-1] == record.duration
        assert starts[1:] == ends[:-1]
        assert all(end > start for start, end in zip(starts, ends, strict=True))
        assert symbols[0] == symbols[-1] == SILENCE
        assert f"{SILENCE} {SILENCE}" not in " ".join(symbols)
        assert len(record.text.split()) < len(symbols) < 2 * len(record.text)


@pytest.mark.parametrize("sample_rate", [16000, 22050])
def test_phone_times_line_up_with_the_files(cache, sample_rate):
    sharp, dull = [], []
    for record in SyntheticSpeech("val", n_utterances=24, cache_dir=cache, sample_rate=sample_rate).records:
        samples, _ = soundfile.read(record.audio_path)
        for symbol, start, end in record.extra["phones"]:
            inside = samples[round((start + 0.005) * sample_rate) : round((end - 0.005) * sample_rate)]
            if symbol == SILENCE:
                assert np.sqrt(np.mean(inside**2)) < 0.01
            elif symbol in ("s", "S") or symbol in ("'I", "'E", "'a", "'V", "'0", "'aI", "'oU"):
                spectrum = np.abs(np.fft.rfft(inside * np.hanning(len(inside)))) ** 2
                high = np.fft.rfftfreq(len(inside), 1 / sample_rate) > 3000
                (dull if symbol.startswith("'") else sharp).append(spectrum[high].sum() / spectrum.sum())
    assert min(len(sharp), len(dull)) > 10
    assert np.quantile(sharp, 0.1) > 0.4
    assert np.quantile(dull, 0.9) < 0.25


def test_both_rates_have_the_same_phones(cache):
    low, high = (
        SyntheticSpeech("val", n_utterances=12, cache_dir=cache, sample_rate=rate).records for rate in (16000, 22050)
    )
    for one, two in zip(low, high, strict=True):
        assert [phone[:2] for phone in one.extra["phones"]] == [phone[:2] for phone in two.extra["phones"]]
        assert abs(one.duration - two.duration) <= 1 / 16000


def test_parts_share_neither_sentences_nor_variants():
    texts, variants = {}, {}
    for part in PARTS:
        drawn = sentences.draw(part, DEFAULT_SIZES[part], 0)
        plan = make_plan(part, drawn, default_voices(part), (130, 190), (35, 65), seed=0)
        texts[part] = {utterance.text for utterance in plan}
        variants[part] = {utterance.voice.partition("+")[2] for utterance in plan}
        assert len(texts[part]) == len(plan) == DEFAULT_SIZES[part]
        assert {utterance.voice for utterance in plan} == set(default_voices(part))
    for one, two in (("train", "val"), ("train", "test"), ("val", "test")):
        assert not texts[one] & texts[two]
        assert not variants[one] & variants[two]


def test_sentences_of_other_seeds_keep_their_part():
    drawn = {part: {text for seed in range(3) for text in sentences.draw(part, 400, seed)} for part in PARTS}
    assert len(drawn["train"]) > 1100
    assert not drawn["train"] & (drawn["val"] | drawn["test"])
    assert not drawn["val"] & drawn["test"]


def test_sentences_are_plain_and_use_every_letter():
    texts = sentences.draw("train", 2150, 0)
    assert set("".join(texts)) == set(string.ascii_lowercase + " '")
    assert {word for text in texts for word in text.split()} == set(sentences.vocabulary())
    lengths = [len(text.split()) for text in texts]
    assert (min(lengths), max(lengths)) == (3, 7)
    assert not any(f" a {vowel}" in f" {text}" for text in texts for vowel in "aeiou")
    assert not any(
        f" an {letter}" in f" {text}" for text in texts for letter in set(string.ascii_lowercase) - set("aeiou")
    )


def test_wide_sentences_hold_every_phone_of_the_accent():
    texts = sentences.draw("train", 1000, 0, "wide")
    assert set("".join(texts)) == set(string.ascii_lowercase + " '")
    counts = Counter()
    with Speaker() as speaker:
        for text in texts:
            counts.update(symbol for symbol, _ in tile(speaker.say(Utterance(text, "en-us")), 1, 1))
    assert not set(PHONES.split()) - set(counts)
    assert min(counts[phone] for phone in PHONES.split()) >= 5


def test_the_wide_grammar_leaves_everyday_sentences_as_they_are():
    assert sentences.draw("train", 3, 0) != sentences.draw("train", 3, 0, "wide")
    assert set(sentences.vocabulary()) < set(sentences.vocabulary("wide"))


def test_the_lines_of_a_file_are_spoken(tmp_path, cache):
    said = [
        f"The {noun} saw {verb}, and said: no!" for noun in ("fox", "crow", "heron") for verb in string.ascii_lowercase
    ]
    path = tmp_path / "said.txt"
    path.write_text("\n".join([*said, said[0], "", "It cost 5 pounds.", "...", "  the   last\tone "]) + "\n")
    parts = {part: sentences.of_file(path, part, None, seed=0) for part in PARTS}
    together = [text for part in PARTS for text in parts[part]]
    assert sorted(together) == sorted([*said, "the last one"])  # each once; no digits, nothing that cannot be spoken
    assert len(parts["train"]) > 45
    assert parts["train"] != sorted(parts["train"])
    assert sentences.of_file(path, "train", 9, seed=0) == parts["train"][:9]
    assert sentences.of_file(path, "train", 9, seed=1) != parts["train"][:9]
    dataset = SyntheticSpeech("test", texts=str(path), cache_dir=cache)
    assert [record.text for record in dataset.records] == parts["test"]
    phones = [symbol for symbol, _, _ in dataset.records[0].extra["phones"]]
    assert {"s", "'O:", "n"} < set(phones), "saw and no"
    assert SyntheticSpeech("test", 2, texts=str(path), cache_dir=cache).records[1].text == parts["test"][1]


def test_a_file_without_sentences_for_a_part_is_refused(tmp_path, cache):
    path = tmp_path / "said.txt"
    path.write_text("good morning\n1 2 3\n")
    part = sentences.part_of("good morning")
    with pytest.raises(ConfigError, match=r"n_utterances: 2, and .*said.txt has 1 sentences for .*; null takes all"):
        SyntheticSpeech(part, 2, texts=str(path), cache_dir=cache)
    other = next(p for p in PARTS if p != part)
    with pytest.raises(DataError, match=rf"said.txt: no sentence for {other} among 2 different lines; give more"):
        SyntheticSpeech(other, texts=str(path), cache_dir=cache)
    with pytest.raises(DataError, match=r"absent\.txt: cannot be read"):
        SyntheticSpeech(part, texts=str(tmp_path / "absent.txt"), cache_dir=cache)


def test_each_utterance_has_a_level_of_its_own(cache):
    plain, soft = (
        SyntheticSpeech("val", 6, voices=["en-us"], level=level, cache_dir=cache) for level in ((0, 0), (-12, -6))
    )
    changes = []
    for one, two in zip(plain.records, soft.records, strict=True):
        (a, _), (b, _) = plain.read(one), soft.read(two)
        changes.append(20 * float((b.norm() / a.norm()).log10()))
        assert one.extra == two.extra
    assert -12.1 < min(changes) < max(changes) < -5.9
    assert len({round(change, 1) for change in changes}) > 3
    with pytest.raises(ConfigError, match="level: expected"):
        SyntheticSpeech("val", 6, level=(-6, -12), cache_dir=cache)


def test_a_smaller_corpus_is_the_beginning_of_a_larger_one():
    small, large = (
        make_plan("test", sentences.draw("test", n, 3), ["en-us", "en"], (130, 190), (35, 65), seed=3) for n in (10, 50)
    )
    assert large[:10] == small


def test_more_sentences_than_the_grammar_has_are_refused(monkeypatch):
    grammar = {"SENTENCE": ["one NOUN falls"], "NOUN": ["cat", "dog", "king"]}
    monkeypatch.setitem(sentences._GRAMMARS, "everyday", grammar)
    with pytest.raises(ConfigError, match="n_utterances: 4 is more than"):
        sentences.draw("train", 4, 0)


def test_ranges_are_used_whole_and_never_left():
    plan = make_plan("train", ["one"] * 1000, ["en-us"], (150, 160), (40, 44), seed=0)
    assert {utterance.rate for utterance in plan} == set(range(150, 161))
    assert {utterance.pitch for utterance in plan} == set(range(40, 45))
    assert {utterance.voice for utterance in plan} == {"en-us"}


def test_named_voices_are_used_in_every_part(cache):
    for part in PARTS:
        voices = ["en-us+f2", "en"]
        speakers = [r.speaker for r in SyntheticSpeech(part, 4, voices=voices, cache_dir=cache).records]
        assert speakers == ["en-us+f2", "en", "en-us+f2", "en"]


def test_a_cached_corpus_is_not_made_again(dataset, cache, monkeypatch):
    def refuse(*_):
        raise AssertionError("spoken again")

    monkeypatch.setattr("hw_base.synthetic.corpus._speak_all", refuse)
    before = {r.audio_path: os.stat(r.audio_path) for r in dataset.records}
    again = SyntheticSpeech("train", n_utterances=12, cache_dir=cache, n_processes=1)
    assert again.records == dataset.records
    for path, stat in before.items():
        assert (stat.st_ino, stat.st_mtime_ns) == (os.stat(path).st_ino, os.stat(path).st_mtime_ns)


def test_every_argument_has_a_corpus_of_its_own(tmp_path):
    base = {"part": "test", "n_utterances": 2, "cache_dir": str(tmp_path)}
    others = [{}, {"seed": 1}, {"rate": (140, 190)}, {"pitch": (50, 60)}, {"sample_rate": 22050}, {"voices": ["en"]}]
    others += [{"n_utterances": 3}, {"part": "val"}]
    for n, other in enumerate(others, start=1):
        SyntheticSpeech(**{**base, **other})
        assert len(folders(tmp_path)) == n
    SyntheticSpeech(**base, n_processes=2)
    assert len(folders(tmp_path)) == len(others)


@pytest.mark.parametrize("damage", ["missing", "truncated", "index", "flipped bit", "changed text", "no digest"])
def test_a_damaged_corpus_is_made_again(dataset, tmp_path, damage):
    first = SyntheticSpeech("train", n_utterances=12, cache_dir=str(tmp_path))
    victim = Path(first.records[5].audio_path)
    if damage == "missing":
        victim.unlink()
    elif damage == "truncated":
        os.truncate(victim, 1000)
    elif damage == "flipped bit":
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    elif damage == "no digest":
        (victim.parents[1] / "sha256").unlink()
    elif damage == "changed text":
        index = victim.parents[1] / "index.json"
        index.write_text(index.read_text().replace(first.records[5].text, first.records[5].text[::-1]))
    else:
        index = victim.parents[1] / "index.json"
        index.write_text(index.read_text()[:-100])
    again = SyntheticSpeech("train", n_utterances=12, cache_dir=str(tmp_path))
    assert files_of(again) == files_of(dataset)
    assert [record.text for record in again.records] == [record.text for record in first.records]
    assert len(folders(tmp_path)) == 1


def test_a_killed_build_leaves_nothing_that_counts(tmp_path):
    process = build_in_background(tmp_path, 400)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".train-*/audio/*.wav")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = folders(tmp_path)
    assert len(left) == 1
    assert left[0].startswith(".train-")
    again = SyntheticSpeech("train", n_utterances=400, cache_dir=str(tmp_path))
    assert len(again) == 400
    assert [name.startswith(".") for name in folders(tmp_path)] == [False]
    assert len(files_of(again)) == 400


def test_two_builds_at_once_both_end_well(tmp_path):
    processes = [build_in_background(tmp_path, 100) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert len(folders(tmp_path)) == 1
    index = json.loads((tmp_path / folders(tmp_path)[0] / "index.json").read_text())
    assert len(index) == 100


def test_without_locks_the_second_build_accepts_the_first(tmp_path, monkeypatch):
    import fcntl

    from hw_base.synthetic import corpus as synthetic

    def no_locks(*_):
        raise OSError("no locks on this file system")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    speak_all = synthetic._speak_all

    def overtaken(*arguments):
        monkeypatch.setattr(synthetic, "_speak_all", speak_all)
        SyntheticSpeech("test", n_utterances=3, cache_dir=str(tmp_path))
        return speak_all(*arguments)

    monkeypatch.setattr(synthetic, "_speak_all", overtaken)
    assert len(SyntheticSpeech("test", n_utterances=3, cache_dir=str(tmp_path))) == 3
    assert len(folders(tmp_path)) == 1
    assert not folders(tmp_path)[0].startswith(".")


def test_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    dataset = SyntheticSpeech("test", n_utterances=1)
    assert (tmp_path / "caches" / "hw_speech") in Path(dataset.records[0].audio_path).parents
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    dataset = SyntheticSpeech("test", n_utterances=1)
    assert (tmp_path / "home" / ".cache" / "hw_speech") in Path(dataset.records[0].audio_path).parents


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written: .*set cache_dir"):
        SyntheticSpeech("test", n_utterances=1, cache_dir=str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voices": ["en-us+f22"]}, "Did you mean 'f2'"),
        ({"voices": ["en-gb"]}, "British English is 'en'"),
        ({"rate": (200, 150)}, r"rate: expected \[lowest, highest\], found \[200, 150\]"),
        ({"pitch": (60, 50)}, r"pitch: expected \[lowest, highest\], found \[60, 50\]"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticSpeech("test", n_utterances=1, cache_dir=str(tmp_path), **arguments)
    assert folders(tmp_path) == []

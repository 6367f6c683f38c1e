import json
import logging
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_base.data.collate import PadCollate
from hw_base.data.loader import build_loader
from hw_base.data.split import Limits, Split
from hw_base.datasets import CustomDir, FreeSpokenDigits, LibriSpeech, Manifest
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS
from tests.conftest import SHARED

soundfile = pytest.importorskip("soundfile")
DATA = SHARED / "data"
needs = {name: pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"no {DATA / name}") for name in (
    "LibriSpeech",
    "free-spoken-digit-dataset",
)}  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_audio(path: Path, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (int(rate * seconds), channels))
    soundfile.write(path, samples, rate)
    return path


def librispeech(root: Path, part: str = "dev-clean") -> Path:
    for speaker, chapter in [(84, 1), (84, 2), (1272, 3)]:
        folder = root / part / str(speaker) / str(chapter)
        names = [f"{speaker}-{chapter}-{i:04}" for i in range(2)]
        for i, name in enumerate(names):
            write_audio(folder / f"{name}.{'mp3' if i else 'flac'}", 0.5 + i)
        lines = [f"{name} HELLO {name.replace('-', ' ')}" for name in names]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("\n".join(lines) + "\n")
    return root


def make_item(record, waveform, generator):
    return {"utterance_id": record.utterance_id, "waveform": waveform, "text": record.text}


def test_all_are_registered():
    for dataset in (LibriSpeech, FreeSpokenDigits, CustomDir, Manifest):
        assert DATASETS[dataset.__name__] is dataset


@pytest.mark.parametrize("inside", ["", "LibriSpeech", "dev-clean/LibriSpeech"])
def test_librispeech(tmp_path, inside):
    librispeech(tmp_path / inside)
    dataset = LibriSpeech(str(tmp_path), "dev-clean")
    assert [record.utterance_id for record in dataset.records] == [
        "1272-3-0000", "1272-3-0001", "84-1-0000", "84-1-0001", "84-2-0000", "84-2-0001",
    ]  # fmt: skip
    assert [record.duration for record in dataset.records] == [0.5, 1.5] * 3
    assert [record.speaker for record in dataset.records] == ["1272"] * 2 + ["84"] * 4
    assert dataset.records[0].text == "HELLO 1272 3 0000"
    assert dataset.read(dataset.records[1])[0].shape == (24000,)
    assert dataset.name == "LibriSpeech dev-clean"


def test_librispeech_by_speakers(tmp_path):
    root = str(librispeech(tmp_path))
    one = LibriSpeech(root, "dev-clean", speakers=["1272"])
    others = LibriSpeech(root, "dev-clean", without_speakers=["1272"])
    assert {record.speaker for record in one.records} == {"1272"}
    assert {record.speaker for record in others.records} == {"84"}
    assert len(one) + len(others) == len(LibriSpeech(root, "dev-clean"))
    assert len(LibriSpeech(root, "dev-clean", speakers=["84", "1272"], without_speakers=["84"])) == len(one)
    for key in ("speakers", "without_speakers"):
        with pytest.raises(ConfigError, match=rf"{key}: \['85'\] are not in the part, which has 1272, 84"):
            LibriSpeech(root, "dev-clean", **{key: ["84", "85"]})
    with pytest.raises(ConfigError, match="no speaker remains"):
        LibriSpeech(root, "dev-clean", without_speakers=["84", "1272"])


def test_librispeech_faults(tmp_path, caplog):
    with pytest.raises(DataError, match=rf"expected the folder {tmp_path}/dev-clean, which does not exist"):
        LibriSpeech(str(tmp_path), "dev-clean")
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(DataError, match=r"dev-clean has no <speaker>/<chapter>/\*.trans.txt"):
        LibriSpeech(str(tmp_path), "dev-clean")
    librispeech(tmp_path)
    extra = write_audio(tmp_path / "dev-clean" / "84" / "1" / "84-1-0009.flac")
    with pytest.raises(DataError, match="utterance '84-1-0009' has no transcript in"):
        LibriSpeech(str(tmp_path), "dev-clean")
    extra.rename(extra.with_name("84-1-0001.flac"))
    with pytest.raises(DataError, match=r"utterance '84-1-0001' lies in two files: .*\.flac and .*\.mp3"):
        LibriSpeech(str(tmp_path), "dev-clean")
    for file in extra.parent.glob("84-1-0001.*"):
        file.unlink()
    with caplog.at_level(logging.WARNING):
        assert len(LibriSpeech(str(tmp_path), "dev-clean")) == 5
    assert "1 transcripts have no audio file" in caplog.text


def test_read_only_corpus(tmp_path):
    root = librispeech(tmp_path / "corpus")
    tree = [root, *root.rglob("*")]
    before = {path: path.stat().st_mtime_ns for path in tree}
    for path in tree:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        for _ in range(2):
            assert len(LibriSpeech(str(root), "dev-clean")) == 6
        # Root may write where it likes, so look whether anything was.
        assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
    finally:
        for path in tree:
            path.chmod(path.stat().st_mode | stat.S_IWUSR)


@needs["LibriSpeech"]
@pytest.mark.parametrize(
    ("part", "utterances", "minutes", "speakers"), [("train-clean-100", 367, 70.4, 3), ("dev-clean", 1313, 162, 20)]
)
def test_real_librispeech(part, utterances, minutes, speakers):
    records = LibriSpeech(str(DATA / "LibriSpeech"), part).records
    assert len(records) == utterances
    assert sum(record.duration for record in records) / 60 == pytest.approx(minutes, abs=0.1)
    assert len({record.speaker for record in records}) == speakers
    assert {char for record in records for char in record.text} <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ")


@needs["LibriSpeech"]
def test_real_librispeech_is_the_same_for_any_number_of_workers():
    datasets = [LibriSpeech(str(DATA / "LibriSpeech"), part) for part in ("train-clean-100", "dev-clean")]
    split = Split("train", datasets, make_item, 16000, Limits(limit=12, max_seconds=16))
    expected = list(build_loader(split, 4, PadCollate()))
    assert sorted(name for batch in expected for name in batch["utterance_id"]) == sorted(
        record.utterance_id for record in split.records
    )
    assert {Path(record.audio_path).suffix for record in split.records} == {".flac", ".mp3"}
    for workers in (1, 2):
        for batch, other in zip(expected, build_loader(split, 4, PadCollate(), workers=workers), strict=True):
            assert batch["text"] == other["text"]
            assert torch.equal(batch["waveform"], other["waveform"])


def test_free_spoken_digits(tmp_path):
    for name in ["3_a_0", "3_a_4", "3_a_5", "9_b_9", "0_b_10", "0_b_49"]:
        write_audio(tmp_path / "recordings" / f"{name}.wav", rate=8000)
    (tmp_path / "recordings" / "notes.txt").write_text("not a recording")
    found = {part: FreeSpokenDigits(str(tmp_path), part).records for part in ("train", "val", "test", "train_all")}
    texts = {part: [(record.utterance_id, record.text, record.speaker) for record in found[part]] for part in found}
    assert texts["test"] == [("3_a_0", "three", "a"), ("3_a_4", "three", "a")]
    assert texts["val"] == [("3_a_5", "three", "a"), ("9_b_9", "nine", "b")]
    assert texts["train"] == [("0_b_10", "zero", "b"), ("0_b_49", "zero", "b")]
    assert sorted(texts["train_all"]) == sorted(texts["train"] + texts["val"])
    with pytest.raises(DataError, match=rf"expected the folder {tmp_path}/nowhere/recordings"):
        FreeSpokenDigits(str(tmp_path / "nowhere"), "train")
    for file in (tmp_path / "recordings").glob("3_a_[04].wav"):
        file.unlink()
    with pytest.raises(DataError, match=r"no recordings .* for 'test'"):
        FreeSpokenDigits(str(tmp_path), "test")


@needs["free-spoken-digit-dataset"]
def test_real_free_spoken_digits():
    parts = {part: FreeSpokenDigits(str(DATA / "free-spoken-digit-dataset"), part) for part in ("train", "val", "test")}
    assert {part: len(dataset) for part, dataset in parts.items()} == {"train": 2400, "val": 300, "test": 300}
    ids = [record.utterance_id for dataset in parts.values() for record in dataset.records]
    assert len(set(ids)) == 3000
    assert sum(record.duration for dataset in parts.values() for record in dataset.records) / 60 == pytest.approx(
        21.9, abs=0.1
    )
    split = Split("test", [parts["test"]], make_item, 16000, evaluation=True)
    assert len(split[0]["waveform"]) == pytest.approx(16000 * split.durations[0], abs=2)


def test_custom_dir(tmp_path, caplog):
    for name in ("b.wav", "a.FLAC", "c.mp3", "d d.ogg"):
        write_audio(tmp_path / "audio" / name)
    (tmp_path / "audio" / "._a.wav").write_bytes(b"resource fork")
    (tmp_path / "audio" / "notes.md").write_text("no audio")
    with caplog.at_level(logging.WARNING):
        assert [record.text for record in CustomDir(str(tmp_path)).records] == [None] * 4
    assert "1 files are left out: 1 .md (first: notes.md)" in caplog.text
    texts = tmp_path / "transcriptions"
    texts.mkdir()
    (texts / "a.txt").write_text("\ufeffhello\nthere \n", encoding="utf-8")
    (texts / "d d.txt").write_text("ünïcode", encoding="utf-8")
    (texts / "z.txt").write_text("nothing recorded")
    with caplog.at_level(logging.WARNING):
        dataset = CustomDir(str(tmp_path))
    assert [(record.utterance_id, record.text, record.duration) for record in dataset.records] == [
        ("a", "hello there", 0.5), ("b", None, 0.5), ("c", None, 0.5), ("d d", "ünïcode", 0.5),
    ]  # fmt: skip
    assert "1 transcripts have no audio file (first: z)" in caplog.text
    explicit = CustomDir(audio_dir=str(tmp_path / "audio"), transcription_dir=str(texts))
    assert explicit.records == dataset.records
    assert [record.text for record in CustomDir(audio_dir=str(tmp_path / "audio")).records] == [None] * 4


def test_custom_dir_faults(tmp_path):
    with pytest.raises(ConfigError, match="give root"):
        CustomDir()
    with pytest.raises(DataError, match=rf"expected the folder {tmp_path}/none with audio files, .*correct root"):
        CustomDir(str(tmp_path / "none"))
    with pytest.raises(DataError, match="has no audio files"):
        CustomDir(str(tmp_path))
    (tmp_path / "audio").mkdir()
    with pytest.raises(DataError, match="has no audio files"):
        CustomDir(str(tmp_path))
    write_audio(tmp_path / "audio" / "a.wav")
    with pytest.raises(DataError, match=r"expected the folder .*nowhere with transcripts"):
        CustomDir(str(tmp_path), transcription_dir=str(tmp_path / "nowhere"))
    (tmp_path / "transcriptions").mkdir()
    (tmp_path / "transcriptions" / "a.txt").write_bytes("grün".encode("latin-1"))
    with pytest.raises(DataError, match=r"utterance 'a': .*a\.txt, line 1: cannot be read as UTF-8"):
        CustomDir(str(tmp_path))
    write_audio(tmp_path / "audio" / "a.flac")
    with pytest.raises(DataError, match="utterance 'a' lies in two files"):
        CustomDir(str(tmp_path))


def test_custom_dir_with_damaged_files(tmp_path):
    folder = tmp_path / "audio"
    write_audio(folder / "good.wav", 1.0, channels=8)
    (folder / "page.flac").write_text("<html>404</html>")
    (folder / "empty.mp3").write_bytes(b"")
    write_audio(folder / "header.wav", 0.0)
    cut = write_audio(folder / "cut.flac", 3.0)
    cut.write_bytes(cut.read_bytes()[:20000])
    dataset = CustomDir(str(tmp_path))
    with pytest.raises(DataError, match=r"test: utterance 'empty': .*empty \(0 bytes\)"):
        Split("test", [dataset], make_item, 16000)
    split = Split("test", [dataset], make_item, 16000, on_bad_data="skip", evaluation=True)
    assert "dropped 2 unreadable (first: empty)" in split.report[0]
    assert "dropped 1 of no duration (first: header)" in split.report[0]
    batches = build_loader(split, 2, PadCollate())
    assert [batch["utterance_id"] for batch in batches] == [["good"]]
    assert split.skipped.keys() == {"cut"}


def manifest(tmp_path: Path, *lines) -> str:
    path = tmp_path / "list.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return str(path)


def test_manifest(tmp_path):
    near, far = write_audio(tmp_path / "clips" / "a.wav"), write_audio(tmp_path / "elsewhere" / "b.wav", 0.75)
    path = manifest(
        tmp_path,
        {"audio_path": "clips/a.wav", "text": "ÄH\u2028x", "speaker": "s", "phones": [["A", 0.0, 0.1]]},
        "",
        {"audio_path": str(far), "duration": 7, "utterance_id": "clip"},
        "",
    )
    first, second = Manifest(path).records
    assert (first.utterance_id, first.text, first.speaker) == ("a", "ÄH\u2028x", "s")
    assert first.duration == 0.5
    assert os.path.samefile(first.audio_path, near)
    assert first.extra == {"phones": [["A", 0.0, 0.1]]}
    assert (second.utterance_id, second.text, second.duration) == ("clip", None, 7.0)
    assert os.path.samefile(second.audio_path, far)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[1]", "line 2: expected an object in braces, found list"),
        ({"text": "x"}, "line 2: audio_path is missing or empty"),
        ({"audio_path": 3}, "line 2: audio_path: expected a string, found 3"),
        ({"audio_path": "b.wav", "text": 5}, "line 2: text: expected a string, found 5"),
        ({"audio_path": "b.wav", "duration": "1"}, "line 2: duration: expected seconds, found '1'"),
        ({"audio_path": "b.wav", "duration": True}, "line 2: duration: expected seconds, found True"),
        ('{"audio_path": "b.wav", "duration": NaN}', "line 2: duration: expected seconds, found nan"),
        ({"audio_path": "b.wav", "duration": -1}, "line 2: duration: expected seconds, found -1"),
        ({"audio_path": "b.wav", "duration": 0}, "line 2: duration: expected more than 0 seconds, found 0"),
        ({"audio_path": "b.wav", "offset": -1}, "line 2: offset: expected seconds, found -1"),
        ({"audio_path": "./a.wav", "duration": 1.0}, "line 2: the utterance id 'a_000000' stands in line 1 already"),
    ],
)
def test_manifest_names_bad_lines(tmp_path, line, message):
    path = manifest(tmp_path, {"audio_path": "a.wav", "duration": 1.0}, line, "nonsense")
    with pytest.raises(DataError, match=message) as caught:
        Manifest(path)
    assert "line 3: not JSON" in str(caught.value)
    assert "line 1:" not in str(caught.value)


def test_manifest_faults(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jsonl: cannot be read"):
        Manifest(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(DataError, match="lists no utterances"):
        Manifest(manifest(tmp_path, "", ""))
    with pytest.raises(DataError, match="5 more bad lines"):
        Manifest(manifest(tmp_path, *["x"] * 15))
    dataset = Manifest(manifest(tmp_path, {"audio_path": "missing.wav"}))
    with pytest.raises(DataError, match="train: utterance 'missing'"):
        Split("train", [dataset], make_item, 16000)

"""Lists and metadata with byte order marks, own ids, absolute paths, segments, and parts of them."""

import json
import math
import os

import numpy as np
import pytest

from hw_base.data.split import Split
from hw_base.datasets import CommonVoice, FileList, LJSpeech, Manifest
from hw_base.errors import DataError

soundfile = pytest.importorskip("soundfile")
RATE = 8000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path, seconds=0.5):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(int(RATE * seconds)) / 9), RATE)
    return path


def ids(dataset):
    return [record.utterance_id for record in dataset.records]


def lj(folder, content):
    for name in ("LJ001-0001", "LJ001-0002", "my_voice_a"):
        write(folder / "wavs" / f"{name}.wav")
    (folder / "metadata.csv").write_bytes(content)
    return str(folder)


def test_ljspeech_with_a_byte_order_mark_keeps_its_first_utterance(tmp_path):
    root = lj(tmp_path, b"\xef\xbb\xbfLJ001-0001|One|one\r\nLJ001-0002|Two|two\r\n\r\n")
    assert [(r.utterance_id, r.text) for r in LJSpeech(root, "all").records] == [
        ("LJ001-0001", "one"),
        ("LJ001-0002", "two"),
    ]


def test_ljspeech_takes_ids_of_any_kind_unless_a_part_is_asked_for(tmp_path):
    root = lj(tmp_path, "my_voice_a|a|before\u2028after\n".encode())
    assert [r.text for r in LJSpeech(root, "all").records] == ["before\u2028after"]
    with pytest.raises(DataError, match=r"'my_voice_a' does not end in a number.*set part to all"):
        LJSpeech(root, "train")


def test_ljspeech_names_what_has_no_audio(tmp_path, caplog):
    LJSpeech(lj(tmp_path, b"LJ001-0001|a|a\nLJ009-0001|a|a\n"), "all")
    assert "1 transcripts have no audio file (first: LJ009-0001)" in caplog.text


def test_common_voice_may_have_empty_lines(tmp_path):
    write(tmp_path / "clips" / "a.wav")
    (tmp_path / "test.tsv").write_bytes("\ufeffpath\tsentence\r\na.wav\tone\u2028line\r\n\r\n".encode())
    assert [r.text for r in CommonVoice(str(tmp_path), "test").records] == ["one\u2028line"]


def file_list(folder, *lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list.txt").write_text("\n".join(lines))
    return FileList(str(folder / "list.txt"))


def test_ids_of_a_list_are_the_same_for_relative_and_absolute_paths(tmp_path):
    write(tmp_path / "p1" / "a.wav")
    relative = file_list(tmp_path, "p1/a.wav|x")
    absolute = file_list(tmp_path, f"{tmp_path}/p1/a.wav|x")
    assert ids(relative) == ids(absolute) == ["p1_a"]


def test_ids_of_paths_outside_the_list_are_names_of_files(tmp_path):
    write(tmp_path / "far" / "a.wav")
    long = tmp_path / ("x" * 120) / ("y" * 120) / "b.wav"
    write(long)
    for first in (f"{tmp_path}/far/a.wav", "../far/a.wav", "sub/../../far/./a.wav"):
        dataset = file_list(tmp_path / "lists", f"{first}|one", f"{long}|two")
        for name in ids(dataset):
            assert "/" not in name
            assert ".." not in name
            assert 0 < len(f"{name}.wav".encode()) <= 255
        assert ids(dataset)[0].endswith("far_a")
        assert [r.duration for r in dataset.records] == [0.5, 0.5]


def test_different_files_never_collide(tmp_path):
    for name in ("a/b.wav", "a_b.wav", "b.flac", "b.wav"):
        write(tmp_path / name)
    dataset = file_list(tmp_path, "a/b.wav|1", "a_b.wav|2", "b.flac|3", "b.wav|4")
    assert len(set(ids(dataset))) == 4
    assert set(ids(file_list(tmp_path, "b.wav|1", "a_b.wav|2", "a/b.wav|3"))) >= set(ids(dataset)[:2])
    with pytest.raises(DataError, match=r"line 2: './b.wav' stands in line 1 already"):
        file_list(tmp_path, "b.wav|1", "./b.wav|2")


def manifest(folder, *rows, **arguments):
    (folder / "list.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return Manifest(str(folder / "list.jsonl"), **arguments)


def ramp(path, seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.arange(int(RATE * seconds)) / RATE / 100, RATE, subtype="FLOAT")


def test_segments_of_a_manifest_are_read_as_segments(tmp_path):
    ramp(tmp_path / "long.wav", 10)
    dataset = manifest(
        tmp_path,
        {"audio_path": "long.wav", "offset": 2.0, "duration": 3.0, "text": "a"},
        {"audio_path": "long.wav", "duration": 1.5, "text": "b"},
        {"audio_path": "long.wav", "offset": 9.25, "text": "c"},
    )
    assert ids(dataset) == ["long_002000", "long_000000", "long_009250"]
    assert [r.duration for r in dataset.records] == [3.0, 1.5, 0.75]
    for record, start in zip(dataset.records, (2.0, 0.0, 9.25), strict=True):
        waveform, rate = dataset.read(record)
        assert rate == RATE
        assert len(waveform) == round(record.duration * RATE)
        assert math.isclose(float(waveform[0]), start / 100, abs_tol=1e-6)
    assert len({record.extra["reading"] for record in dataset.records}) == 3  # what was read is cached under it


def test_a_segment_behind_the_end_of_its_file_is_bad_data(tmp_path):
    ramp(tmp_path / "long.wav", 2)
    rows = [{"audio_path": "long.wav", "offset": start, "duration": 1.0, "text": "a"} for start in (0.0, 1.5, 5.0)]
    split = Split("val", [manifest(tmp_path, *rows)], lambda r, w, g: {"n": len(w)}, RATE, evaluation=True)
    assert split[0]["n"] == RATE
    with pytest.raises(DataError, match=r"long_001500.* truncated: 0\.50 s of audio where the index says 1\.00 s"):
        split[1]
    with pytest.raises(DataError, match=r"long_005000.* its segment lies behind the file's end"):
        split[2]
    dataset = manifest(tmp_path, rows[0], {"audio_path": "long.wav", "offset": 5.0, "text": "a"})
    with pytest.raises(DataError, match=r"'long_005000': .*its duration is 0 s"):
        Split("val", [dataset], lambda r, w, g: {}, RATE)


def test_files_of_a_manifest_in_several_folders_have_ids_of_their_own(tmp_path):
    for name in ("x/a.wav", "y/a.wav", "b.wav"):
        write(tmp_path / name)
    assert ids(manifest(tmp_path, *({"audio_path": n} for n in ("x/a.wav", "y/a.wav", "b.wav")))) == ["x_a", "y_a", "b"]


@pytest.mark.parametrize("split_by", ["speaker", "utterance"])
def test_parts_of_a_list_share_nothing_and_lose_nothing(tmp_path, split_by):
    rows = [
        {"audio_path": f"{i % 7}/{i // 3}.wav", "offset": float(i % 3), "duration": 1.0, "speaker": f"s{i % 7}"}
        for i in range(240)
    ]
    for row in rows:
        row["utterance_id"] = f"{row['audio_path'][:-4]}-{row['offset']}".replace("/", "_")
    rows = list({row["utterance_id"]: row for row in rows}.values())
    parts = {p: manifest(tmp_path, *rows, part=p, split_by=split_by).records for p in ("train", "val", "test")}
    everything = manifest(tmp_path, *rows).records
    assert all(parts.values())
    assert sorted(r.utterance_id for p in parts.values() for r in p) == sorted(r.utterance_id for r in everything)
    # Segments of one file overlap or follow each other: they stay together.
    for key in ("audio_path", "speaker")[: 2 if split_by == "speaker" else 1]:
        groups = [{getattr(r, key) for r in p} for p in parts.values()]
        assert sum(map(len, groups)) == len(set().union(*groups))
    if split_by == "utterance":
        assert 0.05 < len(parts["val"]) / len(everything) < 0.2


def test_a_recording_keeps_its_part_when_others_are_added_or_the_folder_moves(tmp_path):
    def parts(folder, n):
        lines = [f"{i}.wav|a" for i in range(n)]
        (folder / "list.txt").write_text("\n".join(lines))
        found = {p: FileList(str(folder / "list.txt"), part=p) for p in ("train", "val", "test")}
        return {name: p for p, dataset in found.items() for name in ids(dataset)}

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    few, many = parts(tmp_path / "a", 60), parts(tmp_path / "b", 200)
    assert few.items() <= many.items()
    assert set(few.values()) == {"train", "val", "test"}


def test_what_cannot_be_divided_is_said_so(tmp_path):
    lines = [f"{i}.wav|{'ab'[i % 2]}|text" for i in range(9)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    path = os.fspath(tmp_path / "list.txt")
    assert len(FileList(path, part="val")) >= 1
    with pytest.raises(DataError, match=r"2 speaker\(s\) cannot be divided .*set split_by to utterance"):
        FileList(path, part="train", split_by="speaker")
    (tmp_path / "list.txt").write_text("a.wav|x\nb.wav|y")
    with pytest.raises(DataError, match=r"utterance 'a' has no speaker; set split_by to utterance"):
        FileList(path, part="train", split_by="speaker")
    with pytest.raises(DataError, match=r"2 file\(s\) cannot be divided"):
        FileList(path, part="train")

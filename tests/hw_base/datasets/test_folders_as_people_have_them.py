"""What ``test.py -t`` is given: sub-folders, flat folders, one file, corpora, and formats that cannot be read."""

import logging

import numpy as np
import pytest

from hw_base.datasets import CustomDir
from hw_base.datasets.layouts import dataset_of
from hw_base.errors import ConfigError, DataError
from hw_base.registry import DATASETS

soundfile = pytest.importorskip("soundfile")
RATE = 16000


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write(path, **arguments):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.3 * np.sin(np.arange(RATE // 2) / 9), RATE, **arguments)
    return path


def say(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def opened(path):
    section = dataset_of(str(path))
    return DATASETS[section["type"]](**section["args"])


def found(path):
    return {record.utterance_id: (record.text, record.speaker) for record in opened(path).records}


def test_opus_is_read(tmp_path):
    write(tmp_path / "d" / "audio" / "a.opus", format="OGG", subtype="OPUS")
    [record] = CustomDir(str(tmp_path / "d")).records
    assert record.duration == pytest.approx(0.5, abs=0.01)


def test_sub_folders_are_read_and_are_the_speakers(tmp_path):
    for name in ("ann/1.wav", "bob/1.wav", "bob/2.wav", "c.wav"):
        write(tmp_path / "d" / "audio" / name)
    say(tmp_path / "d" / "transcriptions" / "ann" / "1.txt", "one")
    say(tmp_path / "d" / "transcriptions" / "2.txt", "two")
    say(tmp_path / "d" / "transcriptions" / "c.lab", "three")
    assert found(tmp_path / "d") == {
        "ann_1": ("one", "ann"),
        "bob_1": (None, "bob"),
        "2": ("two", "bob"),
        "c": ("three", ""),
    }


def test_what_cannot_be_read_is_counted_and_named(tmp_path, caplog):
    write(tmp_path / "d" / "audio" / "a.wav")
    for name in ("b.m4a", "sub/c.m4a", "d.amr"):
        say(tmp_path / "d" / "audio" / name, "x")
    with caplog.at_level(logging.WARNING):
        assert list(found(tmp_path / "d")) == ["a"]
    assert "3 files are left out: 2 .m4a, 1 .amr (first: b.m4a)" in caplog.text
    (tmp_path / "d" / "audio" / "a.wav").unlink()
    with pytest.raises(DataError, match="has no audio files"):
        opened(tmp_path / "d")
    assert caplog.text.count("left out") == 2


def test_a_flat_folder_has_its_transcripts_beside(tmp_path, caplog):
    write(tmp_path / "d" / "a.wav")
    write(tmp_path / "d" / "b.flac")
    say(tmp_path / "d" / "a.txt", "hello")
    say(tmp_path / "d" / "b.lab", "there")
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path / "d") == {"a": ("hello", ""), "b": ("there", "")}
    assert not caplog.text


def test_one_file_is_one_recording(tmp_path):
    path = write(tmp_path / "a.wav")
    write(tmp_path / "b.wav")
    assert found(path) == {"a": (None, "")}
    say(tmp_path / "a.txt", "hello")
    assert found(path) == {"a": ("hello", "")}
    with pytest.raises(DataError, match="has no audio files"):
        opened(tmp_path / "a.txt")


@pytest.mark.parametrize("below", ["", "dev-clean", "dev-clean/84/121550"])
def test_librispeech_is_read_from_any_of_its_folders(tmp_path, below):
    folder = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121550"
    for i in range(2):
        write(folder / f"84-121550-000{i}.flac")
    say(folder / "84-121550.trans.txt", "84-121550-0000 HELLO\n84-121550-0001 THERE\n")
    texts = {name: text for name, (text, _) in found(tmp_path / "LibriSpeech" / below).items()}
    assert texts == {"84-121550-0000": "HELLO", "84-121550-0001": "THERE"}


def test_libritts_is_read_with_its_normalized_transcripts(tmp_path, caplog):
    write(tmp_path / "84" / "1" / "84_1_0.wav")
    say(tmp_path / "84" / "1" / "84_1_0.original.txt", "No. 5")
    say(tmp_path / "84" / "1" / "84_1_0.normalized.txt", "number five")
    with caplog.at_level(logging.WARNING):
        assert found(tmp_path) == {"84_1_0": ("number five", "84")}
    assert "no audio file" not in caplog.text


def test_ljspeech_vctk_and_common_voice_are_known_by_their_layout(tmp_path):
    write(tmp_path / "lj" / "wavs" / "LJ001-0001.wav")
    say(tmp_path / "lj" / "metadata.csv", "LJ001-0001|1|one\n")
    assert found(tmp_path / "lj") == {"LJ001-0001": ("one", "LJ")}
    write(tmp_path / "vctk" / "wav48_silence_trimmed" / "p225" / "p225_001_mic1.flac")
    say(tmp_path / "vctk" / "txt" / "p225" / "p225_001.txt", "two")
    assert found(tmp_path / "vctk") == {"p225_001": ("two", "p225")}
    write(tmp_path / "cv" / "clips" / "a.mp3")
    say(tmp_path / "cv" / "test.tsv", "path\tsentence\na.mp3\tthree\n")
    assert found(tmp_path / "cv") == {"a": ("three", "")}


def test_a_path_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(ConfigError, match=r"none does not exist"):
        dataset_of(str(tmp_path / "none"))


def test_an_own_folder_is_divided_without_sharing(tmp_path):
    for i in range(30):
        write(tmp_path / "audio" / f"s{i % 6}" / f"{i}.wav")
    for split_by in ("speaker", "utterance"):
        parts = [CustomDir(str(tmp_path), part=p, split_by=split_by).records for p in ("train", "val", "test")]
        names = [record.utterance_id for part in parts for record in part]
        assert len(names) == len(set(names)) == 30
        assert all(parts)
        if split_by == "speaker":
            speakers = [{record.speaker for record in part} for part in parts]
            assert sum(map(len, speakers)) == 6

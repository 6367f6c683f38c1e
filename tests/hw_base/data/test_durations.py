import json
import logging
import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from hw_base.audio import io as audio
from hw_base.data.dataset import Record
from hw_base.data.durations import with_durations
from hw_base.storage import cache_folder

soundfile = pytest.importorskip("soundfile")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hw_speech" / "durations"


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    records = []
    for i in range(20):
        path = folder / f"{i}.wav"
        soundfile.write(path, np.zeros(100 * (i + 1)), 1000)
        records.append(Record(str(i), str(path), -1.0, text="x", extra={"key": i}))
    return folder, records


@pytest.fixture
def opened(monkeypatch):
    """The files whose headers were read."""
    paths = []
    lock = threading.Lock()
    real = audio.info

    def spy(path):
        with lock:
            paths.append(os.path.basename(path))
        return real(path)

    monkeypatch.setattr(audio, "info", spy)
    return paths


EXPECTED = [pytest.approx(0.1 * (i + 1)) for i in range(20)]


def durations(records):
    return [record.duration for record in records]


def test_durations_are_measured_once(corpus, opened, cache):
    folder, records = corpus
    found = with_durations(folder, records)
    assert durations(found) == EXPECTED
    assert [replace(record, duration=-1.0) for record in found] == records
    assert sorted(opened) == sorted(f"{i}.wav" for i in range(20))
    opened.clear()
    assert with_durations(str(folder), records[::-1]) == found[::-1]
    assert opened == []
    assert [path.suffix for path in cache.iterdir()] == [".json"]
    assert sorted(path.suffix for path in folder.iterdir()) == [".wav"] * 20


def test_changed_files_are_measured_anew(corpus, opened):
    folder, records = corpus
    with_durations(folder, records)
    opened.clear()
    soundfile.write(folder / "3.wav", np.zeros(5000), 1000)
    status = (folder / "7.wav").stat()
    os.utime(folder / "7.wav", ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    (folder / "9.wav").unlink()
    found = with_durations(folder, records)
    assert sorted(opened) == ["3.wav", "7.wav"]
    assert found[3].duration == 5.0
    assert found[9].duration == 0.0
    assert "No such file" in found[9].extra["audio_error"]
    assert found[9].extra["key"] == 9
    assert "audio_error" not in found[8].extra


def test_unreadable_files_are_tried_again(corpus):
    folder, records = corpus
    (folder / "0.wav").write_text("<html>")
    assert "a web page" in with_durations(folder, records)[0].extra["audio_error"]
    soundfile.write(folder / "0.wav", np.zeros(100), 1000)
    assert durations(with_durations(folder, records)) == EXPECTED


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"format": 2}', '{"format": 2, "digest": "", "files": {}}', '{"format": 2, "files": 3}'],
)
def test_damaged_cache_is_made_anew(corpus, cache, caplog, content):
    folder, records = corpus
    with_durations(folder, records)
    [file] = cache.iterdir()
    file.write_text(content)
    with caplog.at_level(logging.WARNING):
        assert durations(with_durations(folder, records)) == EXPECTED
    assert "computed again" in caplog.text
    assert len(json.loads(file.read_text())["files"]) == 20


def test_cache_of_another_format_is_not_used(corpus, cache):
    folder, records = corpus
    with_durations(folder, records)
    [file] = cache.iterdir()
    content = json.loads(file.read_text())
    content["format"] = 0
    content["files"] = {path: [*fact[:2], 99.0] for path, fact in content["files"].items()}
    file.write_text(json.dumps(content))
    assert durations(with_durations(folder, records)) == EXPECTED


def test_cache_that_cannot_be_written(corpus, tmp_path, caplog):
    folder, records = corpus
    (tmp_path / "cache").write_text("a file where a folder is wanted")
    with caplog.at_level(logging.WARNING):
        assert durations(with_durations(folder, records)) == EXPECTED
    assert "the durations cannot be cached" in caplog.text


def test_each_corpus_has_a_cache_of_its_own(corpus, tmp_path, cache):
    folder, records = corpus
    with_durations(folder, records)
    other = tmp_path / "other"
    other.mkdir()
    soundfile.write(other / "0.wav", np.zeros(3000), 1000)
    assert with_durations(other, [Record("0", str(other / "0.wav"), 0.0)])[0].duration == 3.0
    assert len(list(cache.iterdir())) == 2


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_folder() == tmp_path / ".cache" / "hw_speech"
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/x")
    assert str(cache_folder()) == "/var/x/hw_speech"


def test_a_changed_duration_in_the_cache_is_found(corpus, cache, caplog):
    folder, records = corpus
    with_durations(folder, records)
    [file] = cache.iterdir()
    content = json.loads(file.read_text())
    content["files"]["3.wav"][2] = 9.0
    file.write_text(json.dumps(content))
    assert durations(with_durations(folder, records)) == EXPECTED
    assert "computed again" in caplog.text

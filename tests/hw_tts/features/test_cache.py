import json
import os
import pickle
import shutil
import time
from pathlib import Path

import pytest
import torch

from hw_base.audio import io as audio
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.split import Split
from hw_base.errors import DataError
from hw_tts.features import cache as feature_cache
from hw_tts.features import cache_files as feature_entries
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.features.cache import FeatureCache

RATE = 22050


class Counting(TTSFeatures):
    """Counts how often features were computed, through the real method."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.made = []

    @property
    def calls(self) -> int:
        return len(self.made)

    def all_of(self, waveform):
        self.made.append(len(waveform))
        return super().all_of(waveform)


def features(**arguments) -> Counting:
    return Counting(pitch="yin", **arguments)


def write(path: Path, hz: float, seconds: float = 0.4) -> Record:
    moment = torch.arange(int(seconds * RATE)) / RATE
    audio.save(path, 0.3 * torch.sin(2 * torch.pi * hz * moment) + 0.1 * torch.sin(4 * torch.pi * hz * moment), RATE)
    long_ago = time.time() - 3600
    os.utime(path, (long_ago, long_ago))
    return Record(path.stem, str(path), seconds)


def get(cache, record, **more):
    return cache.get(record, lambda: audio.load(record.audio_path)[0], **more)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_an_entry_is_what_the_features_say(tmp_path):
    record = write(tmp_path / "a.wav", 200.0)
    first = get(FeatureCache(tmp_path / "cache", features()), record)
    waveform, _ = audio.load(record.audio_path)
    assert equal(first, features().all_of(waveform))
    later = FeatureCache(tmp_path / "cache", features())
    assert equal(later.get(record, None), first)
    assert equal(later.get(record, None), first), "from memory"
    assert later.features.calls == 0
    assert {key: value.dtype for key, value in first.items()} == {
        "spectrogram": torch.float32,
        "pitch": torch.float32,
        "energy": torch.float32,
        "voiced": torch.bool,
    }


def test_nothing_is_written_beside_the_audio(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    record = write(tmp_path / "audio" / "a.wav", 200.0)
    cache = FeatureCache(None, features())
    cache.fill(Split("train", [BaseDataset([record])], lambda *unused: {}, RATE))
    assert [path.name for path in (tmp_path / "audio").iterdir()] == ["a.wav"]
    assert len(list((tmp_path / "home" / "hw_speech" / "features").rglob("*.bin"))) == 1


def test_a_changed_file_is_never_stale(tmp_path):
    record = write(tmp_path / "a.wav", 200.0)
    cache = FeatureCache(tmp_path / "cache", features())
    before = get(cache, record)
    write(tmp_path / "a.wav", 300.0)
    os.utime(tmp_path / "a.wav", (0, 0))
    after = get(cache, record)
    assert not torch.equal(before["spectrogram"], after["spectrogram"])
    assert after["pitch"].median() == pytest.approx(300.0, rel=0.01)


def test_a_file_changed_within_one_tick_of_the_clock_is_not_stale(tmp_path):
    """Same size and the same modification time, as on file systems with coarse clocks."""
    record = write(tmp_path / "a.wav", 200.0)
    now = time.time_ns()
    os.utime(tmp_path / "a.wav", ns=(now, now))
    cache = FeatureCache(tmp_path / "cache", features())
    get(cache, record)
    write(tmp_path / "a.wav", 300.0)
    os.utime(tmp_path / "a.wav", ns=(now, now))
    assert get(cache, record)["pitch"].median() == pytest.approx(300.0, rel=0.01)


@pytest.mark.parametrize(
    "change", [{"n_mels": 60}, {"eps": 1e-4}, {"f_max": 7000.0}, {"pitch_floor": 90.0}, {"normalize": "utterance"}]
)
def test_another_parameter_is_another_entry(tmp_path, change):
    record = write(tmp_path / "a.wav", 200.0)
    get(FeatureCache(tmp_path / "cache", features()), record)
    other = FeatureCache(tmp_path / "cache", features(**change))
    with pytest.raises(DataError, match="no features"):
        other.get(record, None)
    assert equal(get(other, record), features(**change).all_of(audio.load(record.audio_path)[0]))


def test_every_argument_is_part_of_the_key():
    import inspect

    named = json.dumps(feature_cache.parameters(features(pitch_floor=77.0, pitch_ceiling=555.0)))
    for name in set(inspect.signature(TTSFeatures).parameters) - {"pitch_floor", "pitch_ceiling"}:
        assert f'"{name}"' in named
    assert "77.0" in named
    assert "555.0" in named
    assert '"yin"' in named


def test_a_copy_under_another_name_is_the_same_entry(tmp_path):
    record = write(tmp_path / "a.wav", 200.0)
    cache = FeatureCache(tmp_path / "cache", features())
    first = get(cache, record)
    shutil.copy(tmp_path / "a.wav", tmp_path / "b.wav")
    assert equal(cache.get(Record("b", str(tmp_path / "b.wav"), 0.4), None), first)


def test_other_readings_of_a_file_are_other_entries(tmp_path):
    record = write(tmp_path / "a.wav", 200.0)
    cache = FeatureCache(tmp_path / "cache", features())
    whole = get(cache, record)
    half = cache.get(record, lambda: audio.load(record.audio_path)[0][:4000], key_extra="first 4000 samples")
    assert half["energy"].shape != whole["energy"].shape
    assert equal(cache.get(record, None), whole)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "foreign"])
def test_a_damaged_entry_is_made_again(tmp_path, damage, caplog):
    record = write(tmp_path / "a.wav", 200.0)
    first = get(FeatureCache(tmp_path / "cache", features()), record)
    (path,) = (tmp_path / "cache").rglob("*.bin")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-5], "flipped": content, "empty": b"", "foreign": b"x" * 5000}[damage])
    cache = FeatureCache(tmp_path / "cache", features())
    assert equal(get(cache, record), first)
    assert cache.features.calls == 1
    assert "damaged" in caplog.text
    assert equal(FeatureCache(tmp_path / "cache", features()).get(record, None), first)


def test_an_interrupted_write_leaves_no_entry(tmp_path, monkeypatch):
    record = write(tmp_path / "a.wav", 200.0)

    def stop(*unused):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(feature_entries.os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            get(FeatureCache(tmp_path / "cache", features()), record)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def split_of(records, name="train", **arguments) -> Split:
    return Split(name, [BaseDataset(records)], lambda *unused: {}, RATE, **arguments)


def test_filling_goes_on_where_it_was_left(tmp_path):
    records = [write(tmp_path / f"{i}.wav", 150.0 + 20 * i) for i in range(6)]
    cache = FeatureCache(tmp_path / "cache", features())
    get(cache, records[0])
    assert cache.fill(split_of(records), n_threads=3) == {}
    assert cache.features.calls == 6
    again = FeatureCache(tmp_path / "cache", features())
    assert again.fill(split_of(records)) == {}
    assert again.features.calls == 0
    for i, record in enumerate(records):
        assert again.get(record, None)["pitch"].median() == pytest.approx(150.0 + 20 * i, rel=0.01)


def test_digests_are_remembered_from_run_to_run(tmp_path, monkeypatch):
    record = write(tmp_path / "a.wav", 200.0)
    FeatureCache(tmp_path / "cache", features()).fill(split_of([record]))
    known = json.loads((tmp_path / "cache" / "digests.json").read_text())
    assert list(known) == [record.audio_path]
    (tmp_path / "cache" / "digests.json").write_text("{damaged")
    assert FeatureCache(tmp_path / "cache", features()).fill(split_of([record])) == {}
    assert json.loads((tmp_path / "cache" / "digests.json").read_text()) == known


def test_utterances_that_cannot_be_used_are_named_and_do_not_stop_the_others(tmp_path):
    good = write(tmp_path / "good.wav", 200.0)
    short = write(tmp_path / "short.wav", 200.0, seconds=0.01)
    (tmp_path / "noise.wav").write_bytes(b"RIFF" + bytes(100))
    bad = Record("noise", str(tmp_path / "noise.wav"), 1.0)
    gone = Record("gone", str(tmp_path / "gone.wav"), 1.0)
    cache = FeatureCache(tmp_path / "cache", features())
    records = [gone, bad, Record("short", short.audio_path, 0.5), good]
    reasons = cache.fill(split_of(records, on_bad_data="skip"))
    assert set(reasons) == {"gone", "noise", "short"}
    for name, reason in reasons.items():
        assert repr(name) in reason
    assert cache.get(good, None)["energy"].shape == (35,)
    with pytest.raises(DataError, match=r"'gone'.*No such file"):
        get(cache, gone)


def test_threads_are_as_before(tmp_path):
    before = torch.get_num_threads()
    FeatureCache(tmp_path / "cache", features()).fill(split_of([write(tmp_path / "a.wav", 200.0)]))
    assert torch.get_num_threads() == before


def test_memory_is_bounded_and_entries_are_the_callers_own(tmp_path):
    records = [write(tmp_path / f"{i}.wav", 150.0 + 20 * i) for i in range(3)]
    size = sum(value.nbytes for value in features().all_of(audio.load(records[0].audio_path)[0]).values())
    cache = FeatureCache(tmp_path / "cache", features(), max_memory=2 * size)
    cache.fill(split_of(records))
    first = cache.get(records[0], None)
    first["spectrogram"].zero_()
    assert bool(cache.get(records[0], None)["spectrogram"].any())
    shutil.rmtree(cache.folder)
    kept = 0
    for record in records:
        try:
            cache.get(record, None)
            kept += 1
        except DataError:
            continue
    assert kept == 2


def test_another_process_gets_the_cache_without_its_memory(tmp_path):
    records = [write(tmp_path / f"{i}.wav", 150.0 + 20 * i) for i in range(3)]
    cache = FeatureCache(tmp_path / "cache", TTSFeatures(pitch="yin"))
    cache.fill(split_of(records))
    content = pickle.dumps(cache)
    assert len(content) < 200_000 + len(pickle.dumps(cache.features))
    copy = pickle.loads(content)
    assert equal(copy.get(records[1], None), cache.get(records[1], None))


def test_a_folder_that_takes_no_files(tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    record = write(tmp_path / "a.wav", 200.0)
    with pytest.raises(DataError, match=r"cannot be written .*XDG_CACHE_HOME"):
        FeatureCache(tmp_path / "cache", features()).fill(split_of([record]))

import fcntl
import logging
import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hw_base.config.resolve import read, resolve
from hw_base.data import cache
from hw_base.data.cache import Room
from hw_base.data.collate import PadCollate
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.loader import build_loader
from hw_base.data.split import Split
from hw_base.errors import DataError
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT, same

soundfile = pytest.importorskip("soundfile")
RATE, SECONDS = 8000, 0.5


class Counting(BaseDataset):
    """Counts what is read in this process."""

    reads = 0

    def read(self, record):
        self.reads += 1
        return super().read(record)


def make_item(record, waveform, generator):
    return {"utterance_id": record.utterance_id, "waveform": waveform}


@pytest.fixture
def speech(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(n=6, rate=RATE, subtype="PCM_16", **options):
        records = []
        for i in range(n):
            path = tmp_path / f"{i}.wav"
            if not path.exists():
                samples = np.random.default_rng(i).uniform(-0.9, 0.9, int(rate * SECONDS))
                samples[:2] = -1.0, 1.0  # the ends of the range, too
                soundfile.write(path, samples, rate, subtype=subtype)
            records.append(Record(f"u{i}", str(path), SECONDS))
        return Split("train", [Counting(records)], make_item, RATE, **options)

    return make


def loader_of(split, workers=0):
    return build_loader(split, 2, PadCollate(), workers=workers, start_method="fork")


def epochs(loader, n):
    return [list(loader) for _ in range(n)]


@pytest.mark.parametrize("mode", ["memory", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("rate", "subtype"), [(RATE, "PCM_16"), (RATE, "FLOAT"), (16000, "PCM_16")])
def test_batches_with_a_cache_equal_those_without_to_the_bit(speech, mode, workers, rate, subtype):
    expected = epochs(loader_of(speech(rate=rate, subtype=subtype)), 3)
    split = speech(rate=rate, subtype=subtype)
    split.keep(mode, Room())
    loader = loader_of(split, workers)
    found = epochs(loader, 1)
    for record in split.records:
        Path(record.audio_path).unlink()  # from now on all comes from the cache, whichever worker had read it
    assert same(found + epochs(loader, 2), expected)


def test_audio_of_16_bits_takes_two_bytes_a_sample_and_other_audio_four(speech):
    sizes = []
    for rate, subtype in ((RATE, "PCM_16"), (16000, "PCM_16")):
        split = speech(rate=rate, subtype=subtype)
        split.keep("memory", Room())
        sizes.append(split.cache.size)
        for record in split.records:
            Path(record.audio_path).unlink()
    assert sizes[1] - sizes[0] == 2 * 6 * int(RATE * SECONDS)


def test_what_is_on_disk_serves_later_runs_until_a_file_changes(speech):
    first = speech()
    first.keep("disk", Room())
    expected = [first.waveform(i) for i in range(6)]
    later = speech()
    later.keep("disk", Room())
    assert later.datasets[0].reads == 1  # whether it comes in 16 bits
    assert same([later.waveform(i) for i in range(6)], expected)
    assert later.datasets[0].reads == 1
    os.utime(later.records[3].audio_path, ns=(0, 0))
    changed = speech()
    changed.keep("disk", Room())
    changed.waveform(0)
    assert changed.datasets[0].reads == 2


def test_a_damaged_slot_is_made_again(speech, tmp_path):
    split = speech()
    split.keep("disk", Room())
    expected = split.waveform(0)
    (file,) = (tmp_path / "cache" / "hw_speech" / "audio").iterdir()
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    reads = split.datasets[0].reads
    assert torch.equal(split.waveform(0), expected)
    assert split.datasets[0].reads == reads + 1
    assert torch.equal(split.waveform(0), expected)
    assert split.datasets[0].reads == reads + 1


def test_it_takes_no_more_than_half_of_what_is_free_and_says_so(speech, caplog, monkeypatch):
    monkeypatch.setattr(cache, "free_memory", lambda: 60_000)
    split, room = speech(), Room()
    with caplog.at_level(logging.INFO, logger="hw_base"):
        split.keep("memory", room)
    assert split.cache.size <= 30_000
    assert "audio of 3 of 6 utterances" in caplog.text
    assert "half of what is free" in caplog.text
    expected = [split.waveform(i) for i in range(6)]
    reads = split.datasets[0].reads
    assert same([split.waveform(i) for i in range(6)], expected)
    assert split.datasets[0].reads == reads + 3
    other = speech()
    other.keep("memory", room)  # another split of the same run gets what is left
    assert other.cache.kept == [0]


def test_of_several_processes_each_takes_its_part(monkeypatch):
    monkeypatch.setattr(cache, "free_memory", lambda: 80)
    assert Room(4).left("memory") == 10


def test_where_nothing_can_be_written_reading_continues_without(speech, caplog):
    split = speech()
    split.keep("memory", Room())
    expected = split.waveform(0)
    sealed = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW)
    os.dup2(sealed, split.cache._file)
    os.close(sealed)
    for i in (0, 1, 0):
        split.waveform(i)
    assert torch.equal(split.waveform(0), expected)
    assert caplog.text.count("data.train.cache: nothing more can be kept") == 1


def test_what_a_file_on_disk_holds_already_takes_no_room_from_other_splits(speech, monkeypatch):
    first = speech()
    first.keep("disk", Room())
    for i in range(6):
        first.waveform(i)
    held = os.fstat(first.cache._file).st_blocks * 512
    monkeypatch.setattr(cache, "free_on_disk", lambda folder: held)  # half of which is less than a split needs
    room = Room()
    before = room.left("disk")
    later = speech()
    later.keep("disk", room)
    assert later.cache.kept == [6]
    assert room.left("disk") == before - max(0, later.cache.size - held)
    assert room.left("disk") > 0


def test_what_an_evaluation_kept_is_checked_again_where_it_is_trained_on(speech):
    evaluated = speech(evaluation=True)
    soundfile.write(evaluated.records[2].audio_path, np.zeros(int(RATE * SECONDS)), RATE)
    evaluated.keep("disk", Room())
    assert not evaluated.waveform(2).any()
    trained_on = speech()
    trained_on.keep("disk", Room())
    with pytest.raises(DataError, match=r"'u2'.* nothing but silence"):
        trained_on.waveform(2)


def test_a_system_without_files_in_memory_is_one_line(speech, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DataError, match=r"^data\.train\.cache: memory: this system has no .*; set it to none$"):
        speech().keep("memory", Room())


def test_a_folder_that_cannot_be_made_is_one_line(speech, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match=r"data\.train\.cache: disk: .*; set it to none"):
        speech().keep("disk", Room())


def test_a_process_that_is_started_anew_reads_for_itself(speech):
    split = speech()
    split.keep("memory", Room())
    expected = split.waveform(0)
    copied = pickle.loads(pickle.dumps(split))
    reads = copied.datasets[0].reads
    assert torch.equal(copied.waveform(0), expected)
    assert copied.datasets[0].reads == reads + 1


def test_the_caller_may_change_what_it_is_given(speech):
    split = speech()
    split.keep("memory", Room())
    expected = split.waveform(0).clone()
    split.waveform(0).zero_()
    assert torch.equal(split.waveform(0), expected)


def test_a_config_asks_for_it(caplog):
    def batches(*overrides):
        config = resolve(read(ROOT / "configs" / "tiny" / "ds2.json"), overrides)
        trainer = Experiment(config, torch.device("cpu")).trainer(None)
        return epochs(trainer.loader, 2) + epochs(trainer.setup.loaders["val"], 2)

    expected = batches()
    with caplog.at_level(logging.INFO, logger="hw_base"):
        assert same(batches("data.*.cache=memory"), expected)
    assert "train: keeps in memory what it has read: audio of 12 utterances, up to" in caplog.text
    assert "val: keeps in memory what it has read: audio of 6 utterances and 6 spectrograms, up to" in caplog.text

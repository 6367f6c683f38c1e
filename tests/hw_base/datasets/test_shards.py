"""Tar files of many utterances: what was packed comes back to the bit, in the order and shares of every dataset."""

import json
import tarfile
from pathlib import Path

import pytest
import torch

import train as train_script
from hw_base import checkpoint, pack
from hw_base.data.collate import PadCollate
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.loader import build_loader
from hw_base.data.split import Split
from hw_base.datasets import Manifest, Shards
from hw_base.datasets.shards import INDEX, write_index
from hw_base.errors import DataError
from tests.conftest import ROOT, same

CONFIG = str(ROOT / "configs" / "tiny" / "ds2.json")
FEW = "data.train.datasets.0.args.n_utterances=12"


@pytest.fixture(scope="module")
def source():
    from hw_base.synthetic.corpus import SyntheticSpeech

    return SyntheticSpeech("train", 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, source):
    """Several shards of a few utterances."""
    folder = tmp_path_factory.mktemp("shards") / "100 % of it"
    assert pack.shards.pack(pack._utterances([source]), folder, 300_000) == len(source)
    assert len(list(folder.glob("*.tar"))) > 2
    return folder


def split_of(dataset):
    def make_item(record, waveform, generator):
        noise = torch.rand((), generator=generator)
        return {"utterance_id": record.utterance_id, "waveform": waveform + noise}

    return Split("train", [dataset], make_item, 16000, seed=3)


def batches(folder, epoch=0, start=0, **options):
    loader = build_loader(split_of(Shards(str(folder))), 4, PadCollate(), jitter=0.3, **options)
    loader.set_position(epoch, start)
    return list(loader)


def test_what_was_packed_comes_back_to_the_bit(folder, source):
    dataset = Shards(str(folder))
    assert len(dataset) == len(source) == 12
    for ours, theirs in zip(dataset.records, source.records, strict=True):
        assert (ours.utterance_id, ours.text, ours.speaker) == (theirs.utterance_id, theirs.text, theirs.speaker)
        assert ours.duration == theirs.duration
        assert ours.extra["phones"] == [list(phone) for phone in theirs.extra["phones"]]
        assert torch.equal(dataset.read(ours)[0], source.read(theirs)[0])


@pytest.mark.filterwarnings("ignore")
def test_the_library_reads_the_same_tar_files(folder, source):
    from webdataset import WebDataset

    shards = sorted(str(path) for path in folder.glob("*.tar"))
    samples = list(WebDataset(shards, shardshuffle=False))
    texts = [json.loads(sample["json"])["text"] for sample in samples]
    assert texts == [record.text for record in source.records]
    assert samples[0]["wav"] == Path(source.records[0].audio_path).read_bytes()


def test_batches_are_those_of_the_dataset_for_any_workers_and_processes(folder, source):
    plain = build_loader(split_of(source), 4, PadCollate(), jitter=0.3)
    expected = list(plain)
    assert same(batches(folder), expected)
    assert same(batches(folder, workers=2), expected)
    names = [batch["utterance_id"] for batch in expected]
    assert names != [batch["utterance_id"] for batch in batches(folder, epoch=1)]
    shares = [batches(folder, rank=rank, world_size=2) for rank in (0, 1)]
    for whole, first, second in zip(names, *shares, strict=True):
        assert first["utterance_id"] == whole[::2]
        assert second["utterance_id"] == whole[1::2]


def test_an_epoch_continues_in_its_middle_to_the_bit(folder):
    for workers in (0, 2):
        assert same(batches(folder, epoch=1, start=2, workers=workers), batches(folder, epoch=1)[2:])


def test_a_run_that_was_interrupted_in_mid_epoch_ends_like_one_that_was_not(folder, tmp_path):
    sets = [f'data.train.datasets=[{{"type": "Shards", "args": {{"path": "{folder}"}}}}]', "data.train.workers=1"]
    sets += ["trainer.eval_every=100", "trainer.save_every=1", "trainer.monitor=null", "data.val.limit=1"]
    for name, parts in (("whole", [5]), ("parts", [2, 5])):
        for steps in parts:
            run = ["-c", CONFIG, "--run-dir", str(tmp_path / name), "-r", "auto", "-d", "cpu"]
            assert (
                train_script.main(
                    [*run, "--set", *sets, f"trainer.max_steps={steps}", "optimizers.model.scheduler=null"]
                )
                == 0
            )
    ends = [checkpoint.load(tmp_path / name / "checkpoint-00000005.pth")["model"] for name in ("whole", "parts")]
    assert same(*ends)


def test_segments_and_files_of_other_programs_are_packed_and_found(tmp_path, source, capsys):
    record = source.records[0]
    line = {"audio_path": record.audio_path, "text": "a part", "offset": 0.5, "duration": 0.25, "utterance_id": "a.b"}
    (tmp_path / "list.jsonl").write_text(json.dumps(line))
    sets = [f'data.train.datasets=[{{"type": "Manifest", "args": {{"path": "{tmp_path}/list.jsonl"}}}}]']
    assert pack.main(["-c", CONFIG, "-o", str(tmp_path / "out"), "--set", *sets]) == 0
    assert "1 utterances in 1 tar files" in capsys.readouterr().out
    dataset, manifest = Shards(str(tmp_path / "out")), Manifest(str(tmp_path / "list.jsonl"))
    assert dataset.records[0].utterance_id == "a.b"
    assert torch.equal(dataset.read(dataset.records[0])[0], manifest.read(manifest.records[0])[0])

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    with tarfile.open(foreign / "x.tar", "w") as archive:
        archive.add(record.audio_path, "folder/one.wav")
        archive.add(tmp_path / "list.jsonl", "folder/notes.txt")
    assert pack.main(["--index", str(foreign)]) == 0
    (found,) = Shards(str(foreign)).records
    assert (found.utterance_id, found.text) == ("folder/one", None)
    assert found.duration == pytest.approx(record.duration)


class Unreadable(BaseDataset):
    pass


def test_what_is_wrong_is_one_line(tmp_path, folder, source, capsys):
    with pytest.raises(DataError, match=r"no index.jsonl; write it: python -m hw_base.pack --index"):
        Shards(str(tmp_path))
    with pytest.raises(DataError, match=r"no \*.tar files"):
        write_index(tmp_path)
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = next(iter(sorted(tmp_path.glob("*.tar"))))
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"5000 bytes where the index says at least .* copy it again"):
        Shards(str(tmp_path))
    with pytest.raises(DataError, match="not a whole tar file"):
        write_index(tmp_path)
    assert Shards(str(folder))  # an index that could not be written leaves the one before
    shard.unlink()
    with pytest.raises(DataError, match="No such file"):
        Shards(str(tmp_path))
    (tmp_path / INDEX).write_text('{"shard": "../up.tar", "member": [0, 1], "utterance_id": "a", "duration": 1}\n{}\n')
    with pytest.raises(DataError, match=r"line 1: .*up.tar"):
        Shards(str(tmp_path))
    bad = Unreadable([Record("u", "none.wav", 0.0, extra={"audio_error": "damaged"})])
    with pytest.raises(DataError, match="utterance 'u': damaged"):
        list(pack._utterances([bad]))
    assert pack.main(["-c", CONFIG]) == 2
    assert pack.main(["-c", CONFIG, "-o", str(folder)]) == 2
    assert "exists already" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"^utterance 'x': .*gone\.wav: No such file or directory; mend the index"):
        list(pack._utterances([Unreadable([Record("x", str(tmp_path / "gone.wav"), 1.0)])]))
    (tmp_path / "file").write_text("")
    assert pack.main(["-c", CONFIG, "-o", str(tmp_path / "file" / "out")]) == 2
    assert f"error: -o {tmp_path}/file/out: Not a directory" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        pack.main(["-c", CONFIG, "-o", str(tmp_path / "out"), "--shard-mb", "0"])
    assert "--shard-mb: expected more than 0" in capsys.readouterr().err


def test_a_damaged_member_names_its_utterance(tmp_path, folder):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    record = Shards(str(tmp_path)).records[0]
    with open(record.audio_path, "r+b") as shard:
        shard.seek(record.extra["member"][0])
        shard.write(b"\0" * 64)
    with pytest.raises(DataError, match=f"utterance '{record.utterance_id}'.*cannot be decoded as audio"):
        split_of(Shards(str(tmp_path))).waveform(0)

"""What the doctor finds with more effort than before every run: a recognizer's opinion, rates, memory, trackers."""

import dataclasses
import shutil
import socket

import pytest
import torch

from hw_base import doctor, trained
from hw_base.config.resolve import read, resolve
from hw_base.errors import DataError
from hw_base.examinations import data, model, surroundings
from hw_base.recognizer import Recognizer
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT
from tests.recognizers import save_random

TINY = ROOT / "configs" / "tiny" / "ds2.json"


def trainer_of(*overrides):
    config = resolve(read(TINY), ["trainer.amp=off", *overrides])
    return Experiment(config, torch.device("cpu")).trainer(None)


class Hears(Recognizer):
    """Knows what is said in each recording of a split, but for a letter."""

    def __init__(self, split):
        self.texts = {split.waveform(i).sum().item(): r.text for i, r in enumerate(split.records)}

    def transcribe_batch(self, waveforms, sample_rate):
        return [self.texts[waveform.sum().item()][1:] for waveform in waveforms]

    def posteriors(self, waveforms, sample_rate):
        raise NotImplementedError

    def encode(self, text):
        raise NotImplementedError

    def symbol(self, token_id):
        raise NotImplementedError

    def normalize(self, text):
        return text


def test_a_recognizer_tells_texts_of_other_audio_and_single_wrong_ones():
    split = trainer_of().loader.split
    recognizer = Hears(split)
    assert [one.level for one in data.understood(split, recognizer)] == ["ok"]
    texts = [record.text for record in split.records]

    def found(texts):
        split.records = [dataclasses.replace(r, text=t) for r, t in zip(split.records, texts, strict=True)]
        (one,) = data.understood(split, recognizer)
        return one.level, one.what, one.evidence

    level, what, evidence = found(texts[1:] + texts[:1])
    assert (level, what) == ("error", "train: a recognizer hears other texts")
    assert f"train-00000 sounds like {texts[0][1:]!r}, nearest to train-00011" in evidence
    assert found([texts[1], texts[0], *texts[2:]])[0] == "warning"


def test_a_recognizer_hears_what_can_be_read():
    split = trainer_of().loader.split
    recognizer, waveform = Hears(split), split.waveform

    def read(index):
        if index == 0:
            raise DataError("damaged")
        return waveform(index)

    split.waveform = read
    (found,) = data.understood(split, recognizer)
    assert (found.level, found.evidence) == ("ok", "11 utterances")
    split.waveform = lambda index: read(0)
    assert list(data.understood(split, recognizer)) == []


def test_a_recognizer_that_understands_nothing_is_said_to(tmp_path):
    path = save_random(tmp_path / "random.pth")
    split = trainer_of().loader.split
    (found,) = data.understood(split, trained.load_recognizer(path))
    assert (found.level, found.what) == ("warning", "train: the recognizer understands nothing")


def test_the_recognizer_of_the_command_line_is_opened(tmp_path, capsys):
    assert doctor.main(["-c", str(TINY), "--recognizer", str(tmp_path / "none.pth")]) == 2
    assert "none.pth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("lr", "expected"), [(3e-3, "ok"), (2.0, "the learning rate is too high"), (3e-7, "the learning rate is too low")]
)
def test_the_range_test_judges_the_configured_rate_and_restores_the_weights(lr, expected):
    trainer = trainer_of(f"optimizers.model.args.lr={lr}")
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    (found,) = model.lr_range(trainer, trainer.loader.sample(4))
    assert found.level == "ok" if expected == "ok" else found.what.startswith(expected)
    assert f"{lr:.2g} is configured" in found.evidence
    assert found.picture.startswith(b"\x89PNG")
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.state_dict().items())


def test_memory_is_that_of_the_largest_batch():
    trainer = trainer_of()
    batch = trainer.loader.sample(4)
    (enough,) = surroundings.memory(trainer, batch)
    assert enough.level == "ok"

    def needed(trainer):
        (found,) = surroundings.memory(trainer, batch)
        return int(found.evidence.split()[1])

    wide = ["model.args.n_hidden=256"]
    one, more = (needed(trainer_of(f"data.train.batch_size={n}", *wide)) for n in (1, 12))
    assert more > 2 * one


def test_too_little_memory_is_an_error(monkeypatch):
    trainer = trainer_of()
    monkeypatch.setattr(surroundings, "_free", lambda device: 1000)
    (found,) = surroundings.memory(trainer, trainer.loader.sample(4))
    assert (found.level, found.what) == ("error", "the memory is too small")


def test_the_disk_must_hold_as_many_checkpoints_as_the_run_keeps(monkeypatch):
    trainer = trainer_of("trainer.keep=3", "trainer.keep_best=2")
    one, count = trainer.space_needed()
    assert count == 3 + 2 + 2
    usage = shutil.disk_usage(".")
    for free, level in ((count * one, "ok"), (count * one - 1, "error")):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        (found,) = surroundings.disk(trainer)
        assert found.level == level


def test_trackers_are_offline_or_must_be_reached(monkeypatch, tmp_path):
    online = "writers=[{type: WandbWriter, args: {mode: online}}, {type: CometWriter}]"
    trainer = trainer_of(online)
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai login user password {'0' * 40}\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setitem(surroundings.HOSTS, "WandbWriter", server.getsockname())
        shown = [(one.level, one.what) for one in surroundings.trackers(trainer)]
        assert shown == [("ok", "WandbWriter reaches 127.0.0.1"), ("ok", "CometWriter works offline")]
    found = next(surroundings.trackers(trainer))
    assert (found.level, found.what) == ("error", "WandbWriter cannot reach 127.0.0.1")
    assert "python -m hw_base.upload" in found.advice


@pytest.mark.parametrize(("writer", "key"), [("WandbWriter", "WANDB_API_KEY"), ("CometWriter", "COMET_API_KEY")])
def test_a_tracker_without_its_key_is_found(writer, key, monkeypatch, tmp_path):
    monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody is logged in
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (found,) = surroundings.trackers(trainer_of(f"writers=[{{type: {writer}, args: {{mode: online}}}}]"))
    assert (found.level, found.what) == ("error", f"{writer} cannot start")
    assert f"set {key}" in found.evidence


@pytest.mark.parametrize(("snr", "level"), [((5.0, 30.0), "ok"), ((-30.0, -20.0), "error")])
def test_noise_that_drowns_the_speech_is_found(snr, level):
    noise = f"augmentations=[{{type: ColoredNoise, args: {{min_snr: {snr[0]}, max_snr: {snr[1]}, p: 1.0}}}}]"
    trainer = trainer_of(noise)
    findings = trainer.setup.task.examine(trainer, trainer.loader.sample(4), cheap=False)
    (found,) = [one for one in findings if one.what.startswith("ColoredNoise")]
    assert found.level == level

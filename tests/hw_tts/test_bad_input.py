"""What users get wrong when they train a synthesizer: one clear line, or counted, named and left out."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.config import read as config_files
from hw_base.config.resolve import resolve
from hw_base.data.dataset import Record
from hw_base.errors import ConfigError, DataError
from hw_base.runs.experiment import Experiment
from hw_tts.speakers import table as speaker_table
from tests.conftest import ROOT

RATE = 22050


def config(name, **changes):
    """A tiny config with other sections."""
    raw = config_files.read(str(ROOT / "configs" / "tiny" / f"{name}.json"))
    return {**raw, "metrics": {}, **changes}


def recorded(root, texts, seconds=1.0):
    """A folder for CustomDir: a buzzing voice that is said to speak the texts."""
    (root / "audio").mkdir(parents=True)
    (root / "transcriptions").mkdir()
    times = np.arange(int(RATE * seconds)) / RATE
    voice = sum(np.sin(2 * np.pi * 120 * k * times) / k for k in range(1, 20)) * 0.1
    for name, text in texts.items():
        soundfile.write(root / "audio" / f"{name}.wav", voice, RATE)
        (root / "transcriptions" / f"{name}.txt").write_text(text)
    return {"datasets": [{"type": "CustomDir", "args": {"root": str(root)}}], "batch_size": 2}


def learner(data, **changes):
    """A FastSpeech2 that learns its alignments, on any texts."""
    letters = {"type": "CharacterFrontEnd", "args": {"alphabet": "abcdefghijklmnopqrstuvwxyz "}}
    tree = config("fastspeech2", data=data, text_encoder=letters, **changes)
    tree["model"]["args"]["alignment"] = "learned"
    tree["losses"] |= {"alignment": 1.0}
    tree["trainer"] |= {"monitor": None, "max_steps": 1}
    return tree


def trained(tree, folder, *flags):
    file = folder / "config.json"
    file.write_text(json.dumps(tree))
    return train_script.main(["-c", str(file), "--run-dir", str(folder / "run"), "-d", "cpu", *flags])


def trainer_of(tree):
    return Experiment(resolve(tree, []), torch.device("cpu")).trainer(None)


def test_symbols_that_the_table_lacks_are_counted_and_left_out(tmp_path, caplog):
    data = {
        "train": recorded(tmp_path / "train", {"a": "one Ω two Ω", "b": "three Д"}),
        "val": recorded(tmp_path / "val", {"c": "two"}),
    }
    assert trained(learner(data), tmp_path) == 0
    assert "train: 3 symbols outside the vocabulary are left out: 'ω' 2, 'д' 1" in caplog.text
    assert "val: " not in "".join(r.message for r in caplog.records if "outside the vocabulary" in r.message)


def test_what_the_alignments_hold_is_counted_and_no_text_is_spoken(caplog):
    trainer = trainer_of(config("fastspeech2"))
    task, record = trainer.setup.task, trainer.loader.split.records[0]
    task.text_encoder._cache.clear()
    assert task.unknown(record) == []
    phones = [["Q", 0.0, 0.5], *record.extra["phones"], ["Z", 1.0, 2.0]]
    assert task.unknown(Record("x", "x.wav", 2.0, record.text, extra={"phones": phones})) == ["Q", "Z"]
    assert not task.text_encoder._cache
    assert task.unknown(Record("x", "x.wav", 2.0, "ten keys")) == []
    assert task.text_encoder._cache


def test_utterances_with_nothing_to_say_are_named(tmp_path, capsys, caplog):
    texts = {"a": "one two", "b": "ДЖЩ", "c": "...", "d": "three"}
    data = {"train": recorded(tmp_path / "train", texts), "val": recorded(tmp_path / "val", {"c": "two"})}
    tree = learner(data)
    assert trained(tree, tmp_path) == DataError.exit_code
    assert "train: 2 of 4 utterances, 'b', 'c':" in capsys.readouterr().err
    tree["data"]["train"]["on_bad_data"] = "skip"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert trained(tree, tmp_path) == 0
    assert "2 of 4 utterances, 'b', 'c'" in caplog.text


def test_more_symbols_than_frames_are_named(tmp_path, capsys):
    data = {
        "train": recorded(tmp_path / "train", {"a": "one", "b": "one " * 100}),
        "val": recorded(tmp_path / "v", {"c": "x"}),
    }
    assert trained(learner(data), tmp_path) == DataError.exit_code
    assert "train: 1 of 2 utterances, 'b': its 399 symbols do not fit into 87 frames" in capsys.readouterr().err


def test_recordings_without_alignments_are_named_with_the_way_out(tmp_path, capsys):
    data = {"train": recorded(tmp_path / "train", {"a": "one"}), "val": recorded(tmp_path / "val", {"c": "two"})}
    tree = config("fastspeech2", data=data, text_encoder="CharacterFrontEnd")
    assert trained(tree, tmp_path) == DataError.exit_code
    assert "'a': it has no alignment; give the dataset one, or set model.args.alignment" in capsys.readouterr().err


def test_audio_shorter_than_a_frame_is_named_or_left_out(tmp_path, capsys, caplog):
    data = {
        "train": recorded(tmp_path / "train", {"a": "one two", "b": "three"}),
        "val": recorded(tmp_path / "v", {"c": "x"}),
    }
    soundfile.write(tmp_path / "train" / "audio" / "b.wav", np.full(300, 0.1), RATE)
    data["train"]["min_seconds"] = 0.0
    tree = learner(data, features={"type": "TTSFeatures", "args": {"padding": "same"}})
    assert trained(tree, tmp_path) == DataError.exit_code
    assert "'b'" in capsys.readouterr().err
    tree["data"]["train"]["on_bad_data"] = "skip"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert trained(tree, tmp_path) == 0
    assert "1 of 2 utterances, 'b'" in caplog.text


def ljspeech(root, hop_scale):
    """Two clips with durations of one frame for each character, times a factor."""
    (root / "wavs").mkdir(parents=True)
    (root / "alignments").mkdir()
    times = np.arange(RATE) / RATE
    rows = []
    for i, scale in enumerate((1, hop_scale)):
        soundfile.write(root / "wavs" / f"LJ001-000{i + 1}.wav", 0.1 * np.sin(2 * np.pi * 150 * times), RATE)
        rows.append(f"LJ001-000{i + 1}|abc|abc")
        np.save(root / "alignments" / f"{i}.npy", np.array([29, 29, 29], dtype=np.int32) * scale)
    (root / "metadata.csv").write_text("\n".join(rows))
    args = {"root": str(root), "part": "all", "alignments": str(root / "alignments")}
    return {"datasets": [{"type": "LJSpeech", "args": args}], "batch_size": 2}


def test_an_alignment_of_another_sampling_rate_is_named_or_left_out(tmp_path, capsys, caplog):
    data = {"train": ljspeech(tmp_path / "train", 2), "val": ljspeech(tmp_path / "val", 1)}
    tree = config("fastspeech2", data=data, text_encoder="CharacterFrontEnd")
    tree["trainer"] |= {"monitor": None, "max_steps": 1}
    assert trained(tree, tmp_path) == DataError.exit_code
    error = capsys.readouterr().err
    assert "train: 1 of 2 utterances, 'LJ001-0002': " in error
    assert "covers 2.02 s (174 frames of 256 samples at 22050 Hz), but the audio has 1.00 s" in error
    tree["data"]["train"]["on_bad_data"] = "skip"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    assert trained(tree, tmp_path) == 0
    assert "1 of 2 utterances, 'LJ001-0002'" in caplog.text


@pytest.fixture(scope="module")
def vits2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vits2")
    tree = config("vits2")
    tree["trainer"] |= {"monitor": None, "max_steps": 1}
    assert trained(tree, folder) == 0
    return folder / "run" / "checkpoint-00000001.pth"


def test_weights_of_other_frames_or_symbols_are_refused_with_every_difference(vits2):
    tree = config("vits2", init_from=str(vits2), text_encoder="CharacterFrontEnd")
    tree["features"] = {"type": "TTSFeatures", "args": {"padding": "same", "f_max": None, "n_mels": 60}}
    with pytest.raises(ConfigError) as caught:
        trainer_of(tree)
    message = str(caught.value)
    assert "features: n_mels is 80 there, 60 here; features: f_max is 8000.0 there, None here" in message
    assert "text_encoder: EspeakPhones there, CharacterFrontEnd here" in message
    assert str(vits2) in message


def test_weights_of_a_model_of_other_sizes_are_refused_with_every_difference(vits2, tmp_path, capsys):
    tree = config("vits2", init_from=str(vits2))
    tree["model"]["args"] |= {"filter_channels": 48, "flow_layers": 2}
    assert trained(tree, tmp_path) == 2
    error = capsys.readouterr().err
    assert "model.args.filter_channels is 32 there, 48 here" in error
    assert "model.args.flow_layers is 1 there, 2 here" in error


def test_a_checkpoint_of_recognition_is_no_beginning_of_a_synthesizer(tmp_path, capsys):
    other = ROOT / "configs" / "tiny" / "ds2.json"
    sets = ["--set", "trainer.max_steps=1", "--set", "trainer.monitor=null"]
    assert train_script.main(["-c", str(other), "--run-dir", str(tmp_path / "ds2"), "-d", "cpu", *sets]) == 0
    tree = config("vits2", init_from=str(tmp_path / "ds2" / "checkpoint-00000001.pth"))
    assert trained(tree, tmp_path) == 2
    assert "init_from" in capsys.readouterr().err


def test_new_speakers_without_recordings_are_named():
    tree = resolve(config("vits2"), [])
    with pytest.raises(DataError, match="new speakers without recordings in the training split: y, z"):
        speaker_table.begin(torch.nn.Identity(), tree, None, ["a"], ["x", "y", "z"], {"x": torch.zeros(4)}, None)


def test_a_vocoder_of_other_spectrograms_ends_a_training_with_both_lists(tmp_path, capsys):
    tree = config("hifigan")
    tree["trainer"] |= {"monitor": None, "max_steps": 1}
    assert trained(tree, tmp_path) == 0
    vocoder = tmp_path / "run" / "checkpoint-00000001.pth"
    assert checkpoint.load(vocoder)["step"] == 1
    speaker = config("fastspeech2")
    speaker["trainer"] |= {"args": {"vocoder": str(vocoder)}}
    (tmp_path / "second").mkdir()
    assert trained(speaker, tmp_path / "second") == 2
    error = capsys.readouterr().err
    assert "The vocoder's: sample_rate 16000, n_fft 512," in error
    assert "The features': sample_rate 22050, n_fft 1024," in error


@pytest.mark.parametrize("flags", [["--dry-run"], []])
def test_a_validation_speaker_whom_training_lacks_is_told_before_the_first_step(tmp_path, capsys, flags):
    recorded(tmp_path, {name: "in being modern" for name in "abc"}, seconds=1.5)
    (tmp_path / "train.txt").write_text("audio/a.wav|ann|in being modern\naudio/b.wav|bob|in being modern\n")
    (tmp_path / "val.txt").write_text("audio/c.wav|eve|in being modern\naudio/a.wav|ann|in being modern\n")
    raw = config("vits2")
    raw["model"]["args"]["alignment"] = "searched"
    for name, split in raw["data"].items():
        path = str(tmp_path / ("train.txt" if name == "train" else "val.txt"))
        split |= {"datasets": [{"type": "FileList", "args": {"path": path}}], "batch_size": 2}
    (tmp_path / "c.json").write_text(json.dumps(raw))
    arguments = ["-c", str(tmp_path / "c.json"), "-d", "cpu", "--run-dir", str(tmp_path / "run"), *flags]
    assert train_script.main(arguments) == 2
    said = capsys.readouterr().err
    assert "error: val: 1 of 2 utterances, 'audio_c': " in said
    assert "no speaker 'eve' in training. Known: ann, bob" in said
    assert not list(tmp_path.glob("run/*.pth"))
    if flags:
        assert train_script.main([*arguments, "--set", "data.val.on_bad_data=skip"]) == 0

"""Checkpoints and run folders of the first edition, written before modules moved to rooms, still open and resume."""

import json
import shutil

import pytest
import torch

from hw_base import checkpoint, trained
from hw_base.errors import CheckpointError
from hw_base.runs.cli import evaluate_main, train_main
from hw_base.task import BaseTask
from tests.conftest import ROOT

FOLDER = ROOT / "tests" / "data" / "first_edition"
RUNS = sorted(path.name for path in FOLDER.iterdir())


def test_every_task_is_there():
    assert {json.loads((FOLDER / name / "config.json").read_text())["task"] for name in RUNS} == {
        "asr",
        "tts",
        "vocoder",
    }


@pytest.mark.parametrize("name", RUNS)
def test_a_run_folder_resumes(name, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(FOLDER / name, run)
    before = checkpoint.load(checkpoint.numbered(run)[0])
    assert train_main(["-r", str(run), "--set", f"trainer.max_steps={before['step'] + 2}"]) == 0
    after = checkpoint.load(checkpoint.numbered(run)[0])
    assert after["step"] == before["step"] + 2
    assert after["model"].keys() == before["model"].keys()
    assert any(not torch.equal(after["model"][key], value) for key, value in before["model"].items())
    assert {key for key, value in before["config"].items() if value is not None} <= after["config"].keys()


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_is_tested_by_one_task(name, tmp_path, monkeypatch):
    built, init = [], BaseTask.__init__
    monkeypatch.setattr(BaseTask, "__init__", lambda self, config: (built.append(self), init(self, config))[1])
    output = tmp_path / "output.json"
    path = checkpoint.numbered(FOLDER / name)[0]
    assert evaluate_main(["-r", str(path), "-o", str(output)]) == 0
    assert json.loads(output.read_text())
    assert len(built) == 1


def test_a_stored_direction_of_a_plateau_gives_way_to_the_monitor(tmp_path, monkeypatch):
    state = checkpoint.load(checkpoint.numbered(FOLDER / "ds2")[0])
    schedule = {"type": "ReduceLROnPlateau", "args": {"mode": "min", "patience": 3}, "every": "evaluation"}
    state["config"]["optimizers"]["model"]["scheduler"] = schedule
    state["config"]["trainer"]["monitor"] = "max val/wer"
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 1)
        checkpoint.save(tmp_path / "old.pth", {key: value for key, value in state.items() if key != "format"})
    opened = trained.load(tmp_path / "old.pth").config
    assert opened.optimizers["model"].scheduler.args["patience"] == 3
    assert opened.optimizers["model"].scheduler.args.get("mode") in (None, "max")


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_has_what_later_ones_have(name):
    state = checkpoint.load(checkpoint.numbered(FOLDER / name)[0])
    assert state["format"] == checkpoint.FORMAT == 2
    assert state["packages"] == []


@pytest.mark.parametrize("number", [0, 3, None, "1", [1]])
def test_an_unknown_format_is_refused(tmp_path, monkeypatch, number):
    monkeypatch.setattr(checkpoint, "FORMAT", number)
    checkpoint.save(tmp_path / "other.pth", {"model": {}})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"checkpoint format .*; this version reads 2 and before"):
        checkpoint.load(tmp_path / "other.pth")


def test_names_that_were_changed_are_accepted_with_one_line(caplog, tmp_path):
    config = json.loads((FOLDER / "vits2" / "config.json").read_text())
    assert config["trainer"]["type"] == "AdversarialTrainer"
    path = tmp_path / "old.json"
    path.write_text(json.dumps(config))
    assert train_main(["-c", str(path), "--print-config"]) == 0
    lines = [record.getMessage() for record in caplog.records if "now named" in record.getMessage()]
    assert "trainer.type: 'AdversarialTrainer' is now named 'VITS2Trainer'; the old name is accepted" in lines
    assert len(lines) == len(set(lines)) == 1 + len(config["optimizers"])

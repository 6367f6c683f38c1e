"""Checkpoints and run folders of the first edition, written before modules moved to rooms, still open and resume."""

import json
import shutil

import pytest
import torch

from hw_base import checkpoint
from hw_base.runs.cli import evaluate_main, train_main
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
    assert all(key in after["config"] for key in before["config"])


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_is_tested(name, tmp_path):
    output = tmp_path / "output.json"
    path = checkpoint.numbered(FOLDER / name)[0]
    assert evaluate_main(["-r", str(path), "-o", str(output)]) == 0
    assert json.loads(output.read_text())


def test_names_that_were_changed_are_accepted_with_one_line(caplog, tmp_path):
    config = json.loads((FOLDER / "vits2" / "config.json").read_text())
    assert config["trainer"]["type"] == "AdversarialTrainer"
    path = tmp_path / "old.json"
    path.write_text(json.dumps(config))
    assert train_main(["-c", str(path), "--print-config"]) == 0
    lines = [record.getMessage() for record in caplog.records if "now named" in record.getMessage()]
    assert "trainer.type: 'AdversarialTrainer' is now named 'VITS2Trainer'; the old name is accepted" in lines
    assert len(lines) == len(set(lines)) == 1 + len(config["optimizers"])

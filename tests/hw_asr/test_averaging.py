"""A recipe from training to the averaged model's predictions, with pieces of words, through the commands."""

import json

import torch

import test as test_script
import train as train_script
from hw_base import average, checkpoint
from tests.conftest import ROOT


def test_the_average_of_a_run_is_tested(tmp_path, capsys):
    folder, output = tmp_path / "run", tmp_path / "averaged.pth"
    path = str(ROOT / "configs" / "tiny" / "conformer_bpe.json")
    assert train_script.main(["-c", path, "-d", "cpu", "--run-dir", str(folder)]) == 0
    assert len(checkpoint.numbered(folder)) >= 3
    assert average.main([str(folder), "--best", "3", "-o", str(output)]) == 0
    assert "the mean of 3 checkpoints" in capsys.readouterr().out
    made = checkpoint.load(output)
    paths = [checkpoint.path_of(folder, step) for step in made["averaged"]]
    weights = [checkpoint.load(path)["model"]["head.weight"].double() for path in paths]
    torch.testing.assert_close(made["model"]["head.weight"].double(), torch.stack(weights).mean(0))
    assert test_script.main(["-r", str(output), "-d", "cpu", "-o", str(tmp_path / "output.json")]) == 0
    assert len(json.loads((tmp_path / "output.json").read_text())) == 5

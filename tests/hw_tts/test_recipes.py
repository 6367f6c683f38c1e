"""The recipes of real corpora, run as they are on the few recordings at hand.

Only folders, batch sizes, workers, the length of training and the sizes of models are changed.
"""

import json

import pytest
import torch

import test as test_script
import train as train_script
from hw_base import checkpoint
from tests.conftest import ROOT

SPLITS = ("train", "val", "test")
SHORT = ["trainer.max_steps=2", "trainer.epochs=null", "trainer.eval_every=2", "trainer.examples=1"]
ACOUSTIC = ["width=16", "ff_width=16", "predictor_width=16", "n_encoder_layers=1", "n_decoder_layers=1"]


def run(config, folder, sets, device="cpu"):
    """Train for two steps; the checkpoint."""
    flags = [part for item in sets for part in ("--set", item)]
    path = str(ROOT / "configs" / config)
    assert train_script.main(["-c", path, "--run-dir", str(folder), "-d", device, *flags]) == 0
    return folder / "checkpoint-00000002.pth"


def figures(path, folder, *sets):
    """The metrics of the checkpoint, by split."""
    flags = [part for item in sets for part in ("--set", item)]
    assert test_script.main(["-r", str(path), "-d", "cpu", "-o", str(folder / "output.json"), *flags]) == 0
    return json.loads((folder / "metrics.json").read_text())


def rooted(split, root, place=0):
    return f"data.{split}.datasets.{place}.args.root={root}"


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("fastspeech", "fastspeech2_learned")]


@pytest.mark.parametrize("name", ["fastspeech2", *SLOW])
def test_ljspeech_recipes_run_on_the_clips_at_hand(real_data, tmp_path, name):
    root = real_data / "LJSpeech-1.1"
    sets = [rooted(split, root) for split in SPLITS]
    if name != "fastspeech2_learned":
        sets += [f"data.{split}.datasets.0.args.alignments={root / 'alignments.zip'}" for split in SPLITS]
    sets += ["data.train.batch_size=4", "data.train.workers=0", *SHORT, *(f"model.args.{size}" for size in ACOUSTIC)]
    path = run(f"ljspeech/{name}.json", tmp_path / "run", sets)
    state = checkpoint.load(path)
    assert state["step"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in state["model"].values() if value.is_floating_point())
    assert set(figures(path, tmp_path)["test"]) >= {"mcd", "voicing_error", "speaking_rate_error", "log_mel_l1", "stoi"}

"""CR-CTC in training: two views in one batch, one in evaluation, resumed to the bit."""

import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.config import resolve as config
from hw_base.runs.experiment import Experiment
from hw_base.writers.jsonl import read_rows
from tests.conftest import ROOT, same

TINY = str(ROOT / "configs" / "tiny" / "conformer_cr.json")


@pytest.fixture(scope="module")
def trainer():
    return Experiment(config.load(TINY), torch.device("cpu")).trainer(None)


def test_views_differ_in_their_masks_alone(trainer):
    batch = next(iter(trainer.loader))
    views = trainer.two_views(batch)
    size, n = len(batch["text"]), batch["spectrogram"].shape[-1]
    assert views["spectrogram"].shape == (2 * size, *batch["spectrogram"].shape[1:])
    assert views["utterance_id"] == batch["utterance_id"] * 2
    first, second = views["spectrogram"].chunk(2)
    assert not torch.equal(first, second)
    # What no mask of either view covers is equal: both saw the same warp.
    assert (first == second).float().mean() > 0.2
    length = batch["spectrogram_length"]
    padding = torch.arange(n) >= length[:, None]
    assert torch.equal(first.transpose(1, 2)[padding], batch["spectrogram"].transpose(1, 2)[padding])
    for key in ("spectrogram_length", "tokens", "tokens_length"):
        assert torch.equal(views[key], torch.cat([batch[key]] * 2))


def test_views_depend_on_the_step_and_not_on_the_random_state(trainer):
    batch = next(iter(trainer.loader))
    torch.manual_seed(1)
    before = trainer.two_views(batch)["spectrogram"]
    torch.manual_seed(2)
    assert torch.equal(trainer.two_views(batch)["spectrogram"], before)
    trainer.step += 1
    assert not torch.equal(trainer.two_views(batch)["spectrogram"], before)
    trainer.step -= 1


def test_the_loss_is_that_of_both_views_and_their_divergence(trainer):
    batch = next(iter(trainer.loader))
    trainer.model.train()
    torch.manual_seed(0)
    ((_, losses),) = list(trainer.losses(dict(batch)))
    assert losses["ctc"].count == 2 * len(batch["text"])
    assert losses["consistency"].count == len(batch["text"])
    assert losses["consistency"].total > 0
    trainer.model.eval()
    ((_, losses),) = list(trainer.losses(dict(batch)))
    assert set(losses) == {"ctc"}


def test_a_run_that_was_cut_ends_as_one_that_was_not(tmp_path):
    def train(name, *arguments):
        assert train_script.main(["--run-dir", str(tmp_path / name), *arguments, "--set", "trainer.eval_every=4"]) == 0

    train("whole", "-c", TINY)
    train("cut", "-c", TINY, "--set", "trainer.save_every=3")
    last = tmp_path / "cut" / "checkpoint-00000008.pth"
    last.unlink()
    train("cut", "-r", str(tmp_path / "cut" / "checkpoint-00000006.pth"))
    whole, cut = (checkpoint.load(tmp_path / name / "checkpoint-00000008.pth") for name in ("whole", "cut"))
    assert same(whole["model"], cut["model"])
    assert same(whole["optimizations"], cut["optimizations"])
    rows = [row for row in read_rows(tmp_path / "whole" / "metrics.jsonl") if "consistency" in row]
    assert rows
    assert {row["split"] for row in rows} == {"train"}

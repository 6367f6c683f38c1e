"""Whole trainings of small synthesizers: resumed to the bit, with bad losses, short utterances and low precision."""

import copy
import json
import shutil

import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.config import read as config_files
from hw_base.config.resolve import resolve
from hw_base.registry import LOSSES
from hw_base.runs.experiment import Experiment
from hw_tts.losses.adversarial import AdversarialLoss
from hw_tts.losses.vits2 import DurationAdversarialLoss, KLLoss
from tests.conftest import ROOT, same

GROUPS = ("duration_discriminator", "discriminator", "generator")
# Three batches an epoch.
FEW = ["data.train.datasets.0.args.n_utterances=12", "data.val.limit=1", "metrics={}", "trainer.monitor=null"]
UNTIMED = ("steps_per_second", "data_wait")


def trainer_of(*sets, name="vits2", folder=None):
    """A trainer of a tiny config that has not begun."""
    raw = config_files.read(str(ROOT / "configs" / "tiny" / f"{name}.json"))
    return Experiment(resolve(raw, [*FEW, *sets]), torch.device("cpu")).trainer(folder)


def steps(trainer, n):
    """The first n batches, each with what it changed: one bool for each group."""
    for batch, _ in zip(trainer.loader, range(n), strict=False):
        before = {name: copy.deepcopy(net.state_dict()) for name, net in trainer.model.parameter_groups().items()}
        trainer.train_step(batch)
        trainer.guard.read()
        yield {name: not same(before[name], net.state_dict()) for name, net in trainer.model.parameter_groups().items()}


@pytest.mark.parametrize("name", ["vits2", "fastspeech2"])
@pytest.mark.parametrize("workers", [2, pytest.param(0, marks=pytest.mark.slow)])
def test_a_run_resumed_in_the_middle_of_an_epoch_ends_bit_equal(tmp_path, name, workers):
    """Weights, moments and schedules of every optimizer, random numbers, and what was written."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    sets = [*FEW, "trainer.max_steps=5", "trainer.save_every=2", "trainer.eval_every=5", "trainer.keep=9"]
    sets += ["trainer.log_every=1"]
    flags = ["-d", "cpu", *(part for item in sets for part in ("--set", item))]
    config = str(ROOT / "configs" / "tiny" / f"{name}.json")
    assert train_script.main(["-c", config, "--run-dir", str(whole), *flags]) == 0
    shutil.copytree(whole, parts)
    for path in checkpoint.numbered(parts):
        if path.name != "checkpoint-00000002.pth":
            path.unlink()
    more = ["--set", f"data.train.workers={workers}"]
    assert train_script.main(["-r", "auto", "--run-dir", str(parts), "-d", "cpu", *more]) == 0
    one, other = (checkpoint.load(folder / "checkpoint-00000005.pth") for folder in (whole, parts))
    one["config"]["data"]["train"]["workers"] = workers
    assert (one["epoch"], one["batch"]) == (1, 2)
    assert all(state["optimizer"]["state"] for state in one["optimizations"].values())
    assert [key for key in one if not same(one[key], other[key])] == []
    assert rows(whole) == rows(parts)
    shown = [row for row in rows(whole) if "file" in row]
    names = [(row.get("audio") or row["image"]).rpartition("/")[2] for row in shown]
    assert sorted(names) == ["alignment", "recorded", "spectrogram", "synthesized"]
    assert len({row["caption"] for row in shown}) == 1


def rows(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{key: value for key, value in row.items() if key not in UNTIMED} for row in found]
    assert [row["step"] for row in kept if row.get("split") == "train"] == [1, 2, 3, 4, 5]
    return kept


def poisoned(value, calls):
    return value * torch.nan if calls == 2 else value


@LOSSES.register()
class SecondKLIsNaN(KLLoss):
    """Not a number in the second step."""

    calls = 0

    def forward(self, **batch):
        self.calls += 1
        mean = super().forward(**batch)
        return type(mean)(poisoned(mean.total, self.calls), mean.count)


@LOSSES.register()
class SecondVerdictIsNaN(AdversarialLoss):
    """Not a number in the discriminator's second step."""

    calls = 0

    def discriminator(self, real, fake):
        self.calls += 1
        return poisoned(super().discriminator(real, fake), self.calls)


@LOSSES.register()
class SecondDurationVerdictIsNaN(DurationAdversarialLoss):
    """Not a number in the duration discriminator's second step."""

    calls = 0

    def discriminator(self, judged, tokens_mask):
        self.calls += 1
        mean = super().discriminator(judged, tokens_mask)
        return type(mean)(poisoned(mean.total, self.calls), mean.count)


@pytest.mark.parametrize(
    ("group", "loss", "kind"),
    [
        ("generator", "kl", "SecondKLIsNaN"),
        ("discriminator", "adversarial", "SecondVerdictIsNaN"),
        ("duration_discriminator", "adversarial_duration", "SecondDurationVerdictIsNaN"),
    ],
)
def test_a_loss_that_is_not_a_number_skips_its_own_update_only(caplog, group, loss, kind):
    trainer = trainer_of(f"losses.{loss}={kind}")
    changed = list(steps(trainer, 3))
    assert changed == [
        dict.fromkeys(GROUPS, True),
        {name: name != group for name in GROUPS},
        dict.fromkeys(GROUPS, True),
    ]
    assert trainer.guard.skipped == 1
    (message,) = [record.message for record in caplog.records if "skipped" in record.message]
    assert message.startswith(f"step 2: update of {group!r} skipped, not finite: {loss}, loss")
    assert "utterances" in message
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.state_dict().values())


def test_features_that_are_not_finite_do_no_harm(caplog):
    """What no check of the audio can see: an overflow in the spectrogram of one utterance."""
    trainer = trainer_of()
    batches = list(trainer.loader)
    batches[1]["spectrogram"][0, 3, 5] = torch.inf
    generator = trainer.model.generator
    before = copy.deepcopy(generator.state_dict())
    trainer.train_step(batches[1])
    trainer.guard.read()
    assert same(before, generator.state_dict())
    (message,) = [record.message for record in caplog.records if "update of 'generator' skipped" in record.message]
    assert "not finite: kl, loss" in message
    assert batches[1]["utterance_id"][0] in message
    skipped = trainer.guard.skipped
    trainer.train_step(batches[2])
    trainer.guard.read()
    assert trainer.guard.skipped == skipped
    assert not same(before, generator.state_dict())
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.state_dict().values())


def test_utterances_shorter_than_a_segment_train():
    trainer = trainer_of("model.args.segment_frames=600")
    batch = next(iter(trainer.loader))
    assert int(batch["spectrogram_length"].max()) < 600
    assert list(steps(trainer, 1)) == [dict.fromkeys(GROUPS, True)]
    assert trainer.guard.skipped == 0
    outputs = trainer.model.generator(**batch)
    for segment, length in zip(outputs["waveform_segment"], batch["waveform_length"].tolist(), strict=True):
        assert segment[:length].any()
        assert not segment[length:].any()


@pytest.mark.parametrize("name", ["vits2", "fastspeech2"])
def test_one_utterance_is_a_batch(name):
    trainer = trainer_of("data.train.batch_size=1", name=name)
    assert all(all(changed.values()) for changed in steps(trainer, 2))
    assert trainer.guard.skipped == 0


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_low_precision_trains_all_three(amp):
    first = []
    for kind in ("off", amp):
        trainer = trainer_of(f"trainer.amp={kind}")
        batch = next(iter(trainer.loader))
        torch.manual_seed(0)
        trainer.train_step(batch)
        first.append(trainer.window.read())
    exact, low = first
    assert low.keys() == exact.keys()
    for key in ("generator/mel", "generator/kl", "discriminator/adversarial"):
        assert low[key] == pytest.approx(exact[key], rel=0.1), key  # the alignments differ, and so do the segments
        assert low[key] != exact[key], key
    changed: dict[str, bool] = {}
    for _ in range(4):  # of fp16 the first steps find the loss scale
        changed = list(steps(trainer, 3))[-1]
        if all(changed.values()):
            break
    assert changed == dict.fromkeys(GROUPS, True)
    assert all(bool(torch.isfinite(value).all()) for value in trainer.model.state_dict().values())


@pytest.mark.parametrize("name", ["vits2", "fastspeech2"])
def test_an_evaluation_repeats_itself_and_leaves_the_training_alone(name):
    trainer = trainer_of('metrics={"log_mel_l1": "LogMelL1"}', name=name)
    list(steps(trainer, 1))
    state = copy.deepcopy(trainer.state_dict())
    first = trainer.evaluate("val")
    assert "log_mel_l1" in first
    assert [key for key, value in trainer.state_dict().items() if not same(value, state[key])] == []
    torch.rand(3)
    assert trainer.evaluate("val") == first

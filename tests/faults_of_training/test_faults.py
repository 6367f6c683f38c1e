"""Planted faults are named, healthy runs are left alone; the two stories that docs/troubleshooting.md tells."""

import json

import pytest

from hw_asr.data.items import ItemMaker
from hw_asr.trainer import CTCTrainer
from tests.conftest import ROOT
from tests.faults_of_training import shipped
from tests.faults_of_training.__main__ import is_right, play
from tests.faults_of_training.faults import FAULTS, HEALTHY, LR, SCHEDULER
from tests.faults_of_training.plants import around, blank_elsewhere, nan_now_and_then
from tests.faults_of_training.play import RECOGNITION, changed, run

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
DEEPSPEECH = {"type": "DeepSpeech", "args": {"n_hidden": 48, "n_context": 2, "stride": 2}}
# Their findings hardly depend on how a training goes.
QUICK = (
    "frozen encoder",
    "optimizer without half of the parameters",
    "clipping at 1e-6",
    "one batch in every step",
    "training in evaluation mode",
)


def test_there_are_enough_faults():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 24
    assert len(HEALTHY) >= 10
    assert all(f"| {fault.name} |" in PAGE for fault in FAULTS), "the table of the page has all of them"


def test_a_deepspeech_that_turns_nan_names_the_utterances(tmp_path):
    config = changed(RECOGNITION, model=DEEPSPEECH, trainer__max_steps=8, trainer__log_every=2)
    said = run(config, around(ItemMaker, "augmented", nan_now_and_then), folder=tmp_path)
    (line,) = [one.sentence for one in said if one.by == "watcher" and one.name.startswith("nan")]
    assert line in PAGE
    before = next(one for one in said if one.by == "doctor")
    assert f"error: preflight: error    {before.name}: {before.sentence}\n" in PAGE
    rows = [json.loads(row) for row in (tmp_path / "diagnosis.jsonl").read_text().splitlines()]
    assert "nan_in_input" in [row["name"] for row in rows]


@pytest.mark.slow
def test_a_deepspeech2_that_says_one_letter_is_told_about_the_blank():
    said = run(RECOGNITION, around(CTCTrainer, "losses", blank_elsewhere))
    (line,) = [one.sentence for one in said if one.name == "one_symbol"]
    words = "of the frames say ' ': the model emits one letter where blanks belong"
    assert words in line
    assert words in PAGE  # its numbers depend on the processor


@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name in QUICK], ids=lambda fault: fault.name)
def test_a_quick_fault_is_named_rightly(fault):
    config = changed(fault.config, trainer__max_steps=20, trainer__log_every=2)
    assert any(is_right(fault, one) for one in run(config, fault.patch, fault.change))


def test_a_rate_a_hundred_times_too_high_is_named():
    config = changed(RECOGNITION, trainer__max_steps=10, trainer__log_every=2, **{LR: 0.3})
    assert "lr_too_high" in [one.name for one in run(config)]


def shipped_with(lr, folder):
    config = changed(RECOGNITION, trainer__max_bad_steps=2, trainer__preflight=False, **{LR: lr, SCHEDULER: None})
    (folder / "config.json").write_text(json.dumps(config))
    return shipped.play(str(folder / "config.json"))


def test_a_shipped_config_that_diverges_is_an_alarm(tmp_path):
    row = shipped_with(1e30, tmp_path)
    assert row["steps"] > 0
    assert any(one.startswith("end: DivergedError") for one in row["said"])


def test_a_shipped_config_that_cannot_be_built_is_not_run(tmp_path):
    row = shipped_with(-1.0, tmp_path)
    assert (row["steps"], row["said"]) == (0, [])
    assert row["note"].startswith("not run: ")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [f for f in FAULTS if f.name not in QUICK], ids=lambda fault: fault.name)
def test_a_fault_is_named_rightly(fault):
    assert any(is_right(fault, one) for one in play(fault))


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_gives_no_alarm(name):
    assert run(HEALTHY[name]) == []

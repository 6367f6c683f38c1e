"""The doctor's findings on planted faults, none on a good config, and a preflight without a trace."""

import json
import logging

import pytest
import torch

from hw_base import checkpoint
from hw_base.config import read as config_files
from hw_base.config.resolve import resolve
from hw_base.doctor import __main__ as doctor
from hw_base.doctor import data, model, page
from hw_base.doctor.examine import preflight
from hw_base.doctor.findings import Finding
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT, same
from tests.recognizers import save_random


def trainer_of(name, *overrides):
    raw = config_files.read(ROOT / "configs" / "tiny" / f"{name}.json")
    config = resolve(raw, ["trainer.amp=off", "data.train.datasets.0.args.n_utterances=6", *overrides])
    return Experiment(config, torch.device("cpu")).trainer(None)


def levels(findings):
    return {finding.what: finding.level for finding in findings}


@pytest.mark.parametrize("name", ["ds2", "conformer"])
def test_a_good_config_has_no_finding(name):
    assert set(levels(preflight(trainer_of(name))).values()) == {"ok"}


def test_training_is_equal_to_the_bit_with_and_without_a_preflight():
    states = []
    for before in (False, True):
        trainer = trainer_of("ds2")
        if before:
            assert preflight(trainer)
        for batch in trainer.loader:
            trainer.train_step(batch)
        states.append((trainer.model.state_dict(), torch.get_rng_state(), trainer.window.read()))
    assert same(*states)


def test_a_split_that_is_validated_on_itself_is_found():
    trainer = trainer_of("ds2", "data.val.datasets.0.args.part=train")
    assert levels(preflight(trainer))["train and val share utterances"] == "error"


def test_a_detached_output_is_found():
    trainer = trainer_of("ds2")
    forward = trainer.model.rnns[0].forward
    trainer.model.rnns[0].forward = lambda *args: forward(*args).detach()
    found = {finding.what: finding for finding in preflight(trainer)}["parameters without a gradient"]
    assert found.level == "error"
    assert "convs.0.conv.weight" in found.evidence


def test_wrong_output_lengths_are_found():
    trainer = trainer_of("ds2")
    forward = trainer.model.forward

    def one_less(**batch):
        out = forward(**batch)
        return out | {"log_probs_length": out["log_probs_length"] - 1}

    trainer.model.forward = one_less
    assert levels(preflight(trainer))["output lengths are wrong"] == "error"


def test_features_that_are_not_finite_are_named():
    batch = {
        "spectrogram": torch.randn(2, 4, 9),
        "spectrogram_length": torch.tensor([9, 5]),
        "utterance_id": ["a", "b"],
    }
    assert [one.level for one in model.features(batch, "train")] == ["ok"]
    batch["spectrogram"][1, 0, 7] = torch.nan  # padding
    assert [one.level for one in model.features(batch, "train")] == ["ok"]
    batch["spectrogram"][1, 0, 3] = torch.nan
    (found,) = model.features(batch, "train")
    assert (found.level, found.evidence) == ("error", "b")


def test_transcripts_of_other_audio_are_found():
    trainer = trainer_of("ds2", "data.train.datasets.0.args.n_utterances=60")
    split = trainer.loader.split
    assert [one.level for one in data.transcripts_belong(split)] == ["ok"]
    order = sorted(split.records, key=lambda record: len(record.text))
    texts = [record.text for record in order[30:] + order[:30]]
    split.records = [type(r)(r.utterance_id, r.audio_path, r.duration, t) for r, t in zip(order, texts, strict=True)]
    (found,) = data.transcripts_belong(split)
    assert found.level == "error"
    assert "belong to other audio" in found.what


def test_the_page_holds_findings_and_escapes_them(tmp_path):
    picture = page.plot([1.0, 10.0], [2.0, 1.0], "x", "y", log_x=True)
    findings = [Finding("error", "<b>", "1 & 2", ["this"], "mend it", picture), Finding("ok", "fine")]
    page.write(tmp_path / "page.html", "title", "1 ok", findings)
    text = (tmp_path / "page.html").read_text()
    assert "&lt;b&gt;" in text
    assert "What to do: mend it" in text
    assert "data:image/png;base64," in text


def test_the_program_expands_paths_and_says_what_the_checkpoint_says_wrongly(tmp_path, capsys, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "hw_base")  # which the program sets, and which is taken back
    tree = config_files.read(ROOT / "configs" / "tiny" / "ds2.json")
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**tree, "init_from": "$HW_FOLDER/missing.pth"}))
    monkeypatch.setenv("HW_FOLDER", str(tmp_path))
    assert doctor.main(["-c", str(path)]) == 2
    assert f"{tmp_path}/missing.pth: no such file" in capsys.readouterr().err
    state = checkpoint.load(save_random(tmp_path / "model.pth"))
    checkpoint.save(tmp_path / "bad.pth", state | {"config": state["config"] | {"modle": 3}})
    assert doctor.main(["-r", str(tmp_path / "bad.pth")]) == 2
    assert f"(in the config of the checkpoint {tmp_path / 'bad.pth'})" in capsys.readouterr().err

"""The doctor's findings on planted faults, none on a good config, and a preflight without a trace."""

import dataclasses
import json
import logging

import pytest
import torch

from hw_base import checkpoint, doctor
from hw_base.audio import io as audio
from hw_base.config import read as config_files
from hw_base.config.resolve import resolve
from hw_base.examinations import data, model, page
from hw_base.examinations.examine import examine, preflight
from hw_base.examinations.findings import Finding
from hw_base.nn.layers import BiRNN
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT, same
from tests.faults_of_training import plants
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


def with_texts(split, change):
    split.records = [dataclasses.replace(record, text=change(record.text)) for record in split.records]
    return split


def test_one_text_for_all_recordings_is_found():
    split = trainer_of("ds2", "data.train.datasets.0.args.n_utterances=60").loader.split
    (found,) = data.transcripts_belong(with_texts(split, lambda text: "seven keys"))
    assert (found.level, found.what) == ("error", "train: all transcripts are the same")
    assert found.evidence == "60 times 'seven keys'"


def test_transcripts_of_a_part_of_what_is_said_are_found():
    split = trainer_of("ds2").loader.split
    found = [one for one in data.decodes(with_texts(split, lambda text: text.split()[0])) if one.level != "ok"]
    assert [(one.level, one.what) for one in found] == [("warning", "train: transcripts are short for their audio")]


def test_a_loss_with_its_sign_turned_is_found():
    trainer = trainer_of("ds2")
    ctc = trainer.loss_modules["ctc"]
    forward = ctc.forward
    ctc.forward = lambda **batch: dataclasses.replace(loss := forward(**batch), total=-loss.total)
    assert levels(preflight(trainer))["a loss is negative"] == "error"


@pytest.mark.parametrize(
    "change", [lambda tokens: tokens[1:] + tokens[:1], lambda tokens: [one.flip(0) for one in tokens]]
)
def test_tokens_that_are_not_those_of_the_transcript_are_found(change):
    with plants.tokens(change)():
        assert levels(preflight(trainer_of("ds2")))["tokens are not those of the transcripts"] == "error"


def test_ids_that_two_datasets_share_are_no_wrong_tokens():
    trainer = trainer_of("ds2")
    split = trainer.loader.split
    split.records = [dataclasses.replace(record, utterance_id="one") for record in split.records]
    assert levels(preflight(trainer))["tokens are those of the transcripts"] == "ok"


def test_running_statistics_that_never_change_are_found():
    trainer = trainer_of("ds2")
    plants.statistics_stand_still(trainer)
    found = {finding.what: finding for finding in preflight(trainer)}["running statistics never change"]
    assert found.level == "error"
    assert found.evidence.startswith("3: convs.0.norm, convs.1.norm, norms.0; ")


def test_running_statistics_of_a_frozen_norm_may_stand_still():
    trainer = trainer_of("ds2", "optimizers.model.freeze=[convs.*,norms.*]")
    plants.statistics_stand_still(trainer)
    assert "running statistics never change" not in levels(preflight(trainer))


def test_a_dropout_of_nearly_everything_is_found():
    assert "dropout hides nearly everything" not in levels(preflight(trainer_of("ds2", "model.args.dropout=0.5")))
    found = levels(preflight(trainer_of("ds2", "model.args.dropout=0.9")))
    assert found["dropout hides nearly everything"] == "warning"


def in_time(trainer):
    return levels(preflight(trainer)).get("the output does not follow the input in time")


def test_an_output_that_is_reversed_in_time_is_found():
    with plants.with_log_probs(lambda x: x.flip(1))():
        assert in_time(trainer_of("ds2")) == "error"


def test_one_direction_that_is_not_turned_back_is_found():
    with plants.around(BiRNN, "forward", plants.backward_not_turned_back)():
        assert in_time(trainer_of("ds2", "model.args.combine=concat")) == "warning"


def heard_as(split, change, rate=1.0):
    """What is found where the audio is changed, and the durations multiplied."""
    waveforms = [change(split.waveform(i)) for i in range(len(split))]
    split.waveform = waveforms.__getitem__
    split.records = [dataclasses.replace(record, duration=rate * record.duration) for record in split.records]
    return [one.what for one in data.decodes(split) if one.level == "error"]


def test_audio_of_a_wrong_sample_rate_is_found_by_speed_and_band():
    trainer = trainer_of("ds2")
    split = trainer.loader.split
    assert heard_as(split, lambda x: x) == []
    assert heard_as(split, lambda x: audio.resample(x, 2, 1), 0.5) == ["train: speech is implausibly fast"]


def test_audio_at_half_its_speed_and_durations_of_another_index_are_found():
    split = trainer_of("ds2").loader.split
    slow = ["train: durations of the index are not those of the audio"]
    assert heard_as(split, lambda x: audio.resample(x, 1, 2)) == slow
    split = trainer_of("ds2").loader.split
    slow = ["train: slow speech without anything above 4000 Hz"]
    assert heard_as(split, lambda x: audio.resample(x, 1, 2), 2.0) == slow


def test_few_or_silent_utterances_say_nothing_about_speed_and_band():
    split = trainer_of("ds2", "data.train.datasets.0.args.n_utterances=3").loader.split
    assert [one.evidence for one in data.decodes(split)] == ["3 of 3 utterances read", "3 utterances"]
    split.waveform = lambda i: torch.zeros(16000)
    assert [one.what for one in data.decodes(split)] == ["train: next to silence"]


def test_single_words_say_nothing_about_text_and_duration():
    split = trainer_of("ds2", "data.train.datasets.0.args.n_utterances=60").loader.split
    split.records = [dataclasses.replace(record, text=f"wor{'d' * (i % 3)}") for i, record in enumerate(split.records)]
    assert list(data.transcripts_belong(split)) == []


def test_what_is_found_before_training_stands_in_the_diagnosis_of_the_run(tmp_path):
    raw = config_files.read(ROOT / "configs" / "tiny" / "ds2.json")
    small = ["trainer.amp=off", "data.train.datasets.0.args.n_utterances=6", "data.val.datasets.0.args.part=train"]
    trainer = Experiment(resolve(raw, small), torch.device("cpu")).trainer(tmp_path)
    preflight(trainer)
    preflight(trainer)
    (row,) = [json.loads(line) for line in (tmp_path / "diagnosis.jsonl").read_text().splitlines()]
    assert (row["step"], row["name"]) == (0, "train_and_val_share_utterances")
    assert row["evidence"]["level"] == "error"
    assert row["causes"] == ["both splits read the same folder or part"]


def test_losses_that_are_not_finite_are_traced_to_their_layer():
    trainer = trainer_of("ds2")
    forward = trainer.model.rnns[0].forward
    trainer.model.rnns[0].forward = lambda *args: forward(*args) / 0.0
    (found,) = [one for one in preflight(trainer) if one.what.startswith("the first losses are not finite")]
    assert found.what.endswith("the first layer that gives values that are not finite is 'model: rnns.0'")


def test_without_finite_losses_no_update_is_tried():
    trainer = trainer_of("ds2")
    forward = trainer.model.rnns[0].forward
    trainer.model.rnns[0].forward = lambda *args: forward(*args) / 0.0
    said = [one.what for one in examine(lambda: trainer, trainer.setup.task)]
    assert any(what.startswith("the first losses are not finite") for what in said)
    assert not any("learning rate" in what or "one batch" in what for what in said)
    assert list(model.lr_range(trainer, trainer.loader.sample(4))) == []


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

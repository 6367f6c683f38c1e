"""A good submission of every kind from end to end."""

import json
import shutil
import zipfile

import jsonschema
import pytest
import torch

from hw_base import checkpoint
from hw_base.grade import main
from hw_base.grading import report as reports
from hw_base.grading import sandbox
from hw_base.grading.single import grade
from tests.conftest import ROOT
from tests.hw_base.grading.attacks import COMMAND
from tests.hw_base.grading.cases import HONEST, TEXTS, make_request, write_hidden
from tests.recognizers import save_random

needs_bwrap = pytest.mark.skipif(sandbox.problem() is not None, reason=str(sandbox.problem()))
CHECKS = {"silence": 1, "noise": 1, "twins": 1, "fresh": 0, "repeat": 2}


@pytest.fixture
def hidden(tmp_path):
    return write_hidden(tmp_path / "hidden", canary=False)


def run(submission, request, folder):
    report = grade(submission, "ada", request, folder / "report.json")
    assert report["exit_code"] == 0, report["reason"]
    written = json.loads((folder / "report.json").read_text())
    jsonschema.validate(written, reports.schema())
    assert (folder / "report.html").read_text().startswith("<!doctype html>")
    return written


def folder_of(path, files):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(content)
    return path


RIGHT = json.dumps([{"id": key, "pred_text_argmax": text} for key, text in TEXTS.items()])


@pytest.mark.parametrize("kind", ["json", "texts", "folder of texts", "zip"])
def test_predictions_alone(hidden, tmp_path, kind):
    texts = {f"{key}.txt": text for key, text in TEXTS.items()}
    files = {"json": {"output.json": RIGHT}, "texts": texts, "zip": {"output.json": RIGHT}}
    files["folder of texts"] = {f"predictions/{name}": text for name, text in texts.items()}
    submission = folder_of(tmp_path / "in", files[kind])
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
            archive.writestr("ada/output.json", RIGHT)
        submission = tmp_path / "in.zip"
    report = run(submission, make_request(hidden), tmp_path / "out")
    assert report["metrics"] == {"wer": 0.0, "cer": 0.0}
    assert report["grade"]["score"] == 10
    assert report["isolation"]["isolated"] is None
    assert report["normalizer"]["name"] == "lower"
    assert report["details"]["wer"]["interval_95"] == [0, 0]
    assert [finding["name"] for finding in report["findings"]] == ["identical_to_references"]


def test_missing_utterances_count_as_empty(hidden, tmp_path):
    rows = json.dumps([{"id": "utt0", "pred_text_argmax": TEXTS["utt0"]}])
    report = run(folder_of(tmp_path / "in", {"output.json": rows}), make_request(hidden), tmp_path / "out")
    assert report["metrics"]["wer"] == pytest.approx(5 / 6)
    assert report["details"]["missing"]["count"] == 5


@needs_bwrap
def test_a_checkpoint_of_this_template(hidden, tmp_path):
    submission = folder_of(tmp_path / "in", {"README.md": "mine"})
    save_random(submission / "model_best.pth")
    request = make_request(hidden, checks={**CHECKS, "fresh": 2})
    report = run(submission, request, tmp_path / "out")
    assert report["isolation"]["isolated"] is True
    assert report["model"] == {"name": "DeepSpeech2", "parameters": report["model"]["parameters"]}
    assert report["submission"]["kind"] == "checkpoint"
    assert report["fresh_speech"]["utterances"] == 2
    assert report["measured"]["first"]["real_time_factor"] > 0
    assert report["measured"]["first"]["peak_memory"] > 100e6
    assert all(row["prediction"] for row in report["utterances"])


@needs_bwrap
def test_a_transducer_of_this_template_by_the_table_of_its_course(hidden, tmp_path):
    submission = folder_of(tmp_path / "in", {"README.md": "mine"})
    save_random(submission / "model_best.pth", name="transducer")
    settings = json.loads((ROOT / "configs" / "grading" / "course_rnnt.json").read_text())
    own = {key: settings[key] for key in ("table", "floor", "max_score")}
    request = make_request(hidden, **{**own, "table": [{**row, "set": None} for row in own["table"]]})
    report = run(submission, request, tmp_path / "out")
    assert report["model"]["name"] == "Transducer"
    assert all(row["prediction"] for row in report["utterances"])
    assert report["grade"]["score"] == settings["floor"]


class ConfigParser:
    """The older template puts its own into every checkpoint."""

    def __init__(self):
        self.config = {"name": "mine"}


def write_old(folder, tmp_path, n_hidden=24):
    """The form of the course's older template, of a model that is registered here under the same names of tensors."""
    features = "features.args={sample_rate: 16000, n_fft: 400, win_length: 400, hop_length: 200, n_mels: 40}"
    alphabet = "text_encoder={type: CharTextEncoder, args: {alphabet: 'abcdefghijklmnopqrstuvwxyz '}}"
    state = checkpoint.load(save_random(tmp_path / "new.pth", [features, alphabet]))
    weights = {f"module.{name}": value for name, value in state["model"].items()}
    old = {"arch": "DeepSpeech2", "epoch": 3, "state_dict": weights, "config": ConfigParser(), "monitor_best": 0.1}
    (folder / "default_test_model").mkdir(parents=True)
    torch.save(old, folder / "default_test_model" / "checkpoint.pth")
    arguments = {"n_feats": 40, "n_class": 28, "conv_channels": [4, 4], "n_layers": 1, "n_hidden": n_hidden}
    spectrogram = {"type": "MelSpectrogram", "args": {"n_mels": 40}}
    config = {
        "name": "mine",
        "arch": {"type": "DeepSpeech2", "args": arguments},
        "preprocessing": {"sr": 16000, "spectrogram": spectrogram, "log_spec": True},
    }
    (folder / "default_test_model" / "config.json").write_text(json.dumps(config))
    return folder


@needs_bwrap
def test_the_older_templates_folder(hidden, tmp_path):
    report = run(write_old(tmp_path / "in", tmp_path), make_request(hidden), tmp_path / "out")
    assert report["submission"]["kind"] == "old template"
    assert report["submission"]["main"] == "default_test_model/checkpoint.pth"
    assert all(row["prediction"] for row in report["utterances"])


def test_an_older_model_that_does_not_fit_is_refused(tmp_path):
    from hw_asr.evaluation.grading import GRADING
    from hw_base.grading.outcome import SubmissionError

    folder = write_old(tmp_path / "in", tmp_path, n_hidden=32) / "default_test_model"
    state, stubs = checkpoint.load_with_stubs(folder / "checkpoint.pth")
    assert stubs == ["tests.hw_base.grading.test_good.ConfigParser"]
    with pytest.raises(SubmissionError, match="differ in name or shape"):
        GRADING.convert(state["state_dict"], json.loads((folder / "config.json").read_text()))
    with pytest.raises(SubmissionError, match="Registered models"):
        GRADING.convert({}, {"arch": {"type": "MyModel", "args": {}}, "preprocessing": {"sr": 16000}})


@needs_bwrap
def test_a_program_of_its_own(hidden, tmp_path):
    """It reads the audio: a tone's frequency is its text."""
    listen = """
import wave
def hear(name):
    with wave.open(f"{sys.argv[1]}/audio/{name}.wav") as file:
        data = file.readframes(file.getnframes())
    signs = [data[i + 1] >= 128 for i in range(0, len(data), 2)]
    return f"tone {sum(a != b for a, b in zip(signs, signs[1:])) // 16 * 16}"
answer(hear)
"""
    submission = folder_of(tmp_path / "in", {"main.py": HONEST + listen})
    request = make_request(hidden, command=COMMAND, checks=CHECKS)
    report = run(submission, request, tmp_path / "out")
    assert report["findings"] == []
    assert set(report["measured"]) == {"first", "second"}
    assert len({row["prediction"] for row in report["utterances"]}) == 6
    again = grade(submission, "ada", request, tmp_path / "again.json")
    assert reports.comparable(again) == reports.comparable(
        json.loads((tmp_path / "out" / "report.json").read_text())
    ) | {"limits": again["limits"]}


def test_wavs_of_synthesis(hidden, tmp_path):
    submission = tmp_path / "in" / "wavs"
    shutil.copytree(hidden / "audio", submission)
    checks = {"task": "tts", "table": [{"score": 10, "metric": "mcd", "at_most": 1.0}]}
    report = run(tmp_path / "in", make_request(hidden, **checks), tmp_path / "out")
    assert report["metrics"]["mcd"] == pytest.approx(0.0, abs=1e-3)
    assert report["grade"]["score"] == 10
    assert [finding["name"] for finding in report["findings"]] == ["identical_to_references"]
    (submission / "utt0.wav").unlink()
    worse = run(tmp_path / "in", make_request(hidden, **checks), tmp_path / "out")
    assert worse["metrics"]["mcd"] > 1
    assert [finding["name"] for finding in worse["findings"]] == ["missing_ids"]


@needs_bwrap
@pytest.mark.slow
def test_a_checkpoint_of_synthesis(hidden, tmp_path):
    for i, text in enumerate(("we see ten keys", "she can see the box", "take the book now")):
        (hidden / "transcriptions" / f"utt{i}.txt").write_text(text)
    submission = folder_of(tmp_path / "in", {})
    source = next((ROOT / "tests" / "data" / "first_edition" / "fastspeech2").glob("*.pth"))
    shutil.copy(source, submission / "checkpoint.pth")
    recognizer = save_random(tmp_path / "recognizer.pth")
    names = ["mcd", "duration_error", "cer"]
    request = make_request(hidden, task="tts", metrics=names, recognizer=str(recognizer), table=[])
    report = run(submission, request, tmp_path / "out")
    assert set(report["metrics"]) == set(names)
    assert report["model"]["name"] == "FastSpeech2"
    assert report["measured"]["first"]["real_time_factor"] > 0
    # The other texts have a phone that this small model was not trained with.
    assert report["details"]["missing"]["ids"] == ["utt3", "utt4", "utt5"]


def test_the_command_line(hidden, tmp_path, capsys):
    submission = folder_of(tmp_path / "ada", {"output.json": RIGHT})
    config = str(ROOT / "configs" / "grading" / "asr.json")
    command = ["--submission", str(submission), "--task", "asr", "--data", str(hidden), "-c", config]
    assert main([*command, "-o", str(tmp_path / "report.json")]) == 0
    assert "graded: 100 of 100 points" in capsys.readouterr().out
    (submission / "output.json").write_text(json.dumps([{"id": "utt0", "pred_text_argmax": "x"}]))
    assert main([*command, "-o", str(tmp_path / "report.json")]) == 1
    for wrong, message in (
        (["-o", str(tmp_path / "report.txt")], "expected the name of a .json file"),
        (["-o", str(submission / "report.json")], "lies in what was submitted"),
        (["-o", str(tmp_path / "r.json"), "--references", str(tmp_path / "none")], "has no transcript"),
        (["-o", str(tmp_path / "r.json"), "--limits", "time"], "above 0"),
    ):
        assert main([*command, *wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "raw", "message"),
    [
        ("asr", {"normalizer": "lowr"}, "Did you mean 'lower'"),
        ("tts", {"metrics": ["mcd", "cer"]}, "cer needs 'recognizer'"),
        ("tts", {"metrics": ["mdc"]}, "known are mcd"),
        ("tts", {"recognizer": "none.pth"}, "no such file"),
    ],
)
def test_what_a_task_cannot_do_is_the_staffs_fault(hidden, tmp_path, capsys, task, raw, message):
    (tmp_path / "c.json").write_text(json.dumps({"task": task, **raw}))
    command = ["--submission", str(tmp_path), "--task", task, "--data", str(hidden), "-c", str(tmp_path / "c.json")]
    assert main([*command, "-o", str(tmp_path.parent / "report.json")]) == 2
    assert message in capsys.readouterr().err


def test_points_that_staff_give(hidden, tmp_path, capsys):
    folder_of(tmp_path / "class" / "ada", {"output.json": RIGHT})
    config = str(ROOT / "configs" / "grading" / "course_ctc.json")
    (tmp_path / "points.json").write_text(json.dumps({"ada": {"language_model": 0.5, "logging": -0.25}}))
    command = ["--submissions", str(tmp_path / "class"), "--task", "asr", "--data", str(hidden), "-c", config]
    command += ["-o", str(tmp_path / "out"), "--adjustments", str(tmp_path / "points.json")]
    assert main(command) == 0
    assert json.loads((tmp_path / "out" / "ada" / "report.json").read_text())["grade"]["score"] == 1.25
    (tmp_path / "points.json").write_text(json.dumps({"ada": {"language_model": 5}}))
    assert main(command) == 2
    assert "language_model (0 to 0.5)" in capsys.readouterr().err


def test_a_submissions_own_code_says_that_it_was_not_isolated(hidden, tmp_path):
    submission = folder_of(tmp_path / "in", {"main.py": HONEST + "answer(lambda n: 'text ' + n)"})
    report = run(submission, make_request(hidden, command=COMMAND, isolated=False), tmp_path / "out")
    assert report["isolation"]["isolated"] is False
    assert "NOT ISOLATED" in (tmp_path / "out" / "report.html").read_text()


def test_what_students_write_is_escaped(hidden, tmp_path):
    rows = json.dumps([{"id": key, "pred_text_argmax": f"<script>{key}</script>\x1b[31m"} for key in TEXTS])
    report = run(folder_of(tmp_path / "in", {"output.json": rows}), make_request(hidden), tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script>utt" not in page
    assert "\x1b" not in page
    assert "\x1b" not in (tmp_path / "out" / "report.json").read_text()
    assert report["utterances"][0]["prediction"].endswith("\\x1b[31m")

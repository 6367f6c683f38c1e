"""A run that was killed is sent whole, from its record, to every tracker without a network; and read back."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec

import pytest

from hw_base import upload
from hw_base.writers.jsonl import read_rows
from tests.conftest import ROOT
from tests.hw_base.writers.test_trackers import CometArchive, WandbFolder

KILLED = """
import os, signal, sys
import train
from hw_base.training.trainer import BaseTrainer
evaluate = BaseTrainer.evaluate
def evaluated(self, split):
    values = evaluate(self, split)
    if self.step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return values
BaseTrainer.evaluate = evaluated
sets = ["trainer.max_steps=6", "trainer.eval_every=2", "trainer.log_every=1", "trainer.examples=1"]
train.main(["-c", "configs/tiny/ds2.json", "-d", "cpu", "--run-dir", sys.argv[1], "--set", *sets])
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A run folder that nothing was connected to; the kill comes in the middle of an evaluation."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KILLED, folder], cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    return folder


@pytest.fixture
def rows(killed):
    """What the record holds: {name: [(step, number)]}, and the names of what is no number."""
    numbers, others = {}, set()
    for row in read_rows(killed / "metrics.jsonl"):
        kinds = {"table", "image", "audio", "text"} & row.keys()
        others |= {(kind, f"{row['split']}/{row[kind]}", row["step"]) for kind in kinds}
        for key in row.keys() - {"step", "split"} if not kinds else ():
            numbers.setdefault(f"{row['split']}/{key}", []).append((row["step"], float(row[key])))
    assert max(step for step, _ in numbers["train/ctc"]) == 4
    assert {kind for kind, *_ in others} == {"table", "image", "audio"}
    return numbers, others


@pytest.fixture
def captions(killed):
    """What stands beside sounds and pictures: name -> text."""
    rows = [row for row in read_rows(killed / "metrics.jsonl") if "caption" in row]
    found = {f"{row['split']}/{row.get('audio', row.get('image'))}": row["caption"] for row in rows}
    assert any(name.endswith("/recorded") for name in found)
    return found


def sent(killed, tmp_path, tracker, capsys):
    arguments = [str(killed), "--to", tracker, "--offline", "--project", "asr", "-o", str(tmp_path / "upload")]
    assert upload.main(arguments) == 0
    assert capsys.readouterr().out.startswith(f"{killed / 'metrics.jsonl'} -> {tracker}")
    assert upload.main(arguments) == 2
    assert "the run was sent before" in capsys.readouterr().err
    return tmp_path / "upload" / tracker


def test_tensorboard_has_everything(killed, rows, captions, tmp_path, capsys):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    numbers, others = rows
    folder = sent(killed, tmp_path, "tensorboard", capsys)
    everything = dict.fromkeys(["scalars", "images", "audio", "tensors"], 0)
    loaded = EventAccumulator(str(folder), size_guidance=everything).Reload()
    tags = loaded.Tags()
    assert set(tags["scalars"]) == numbers.keys()
    for name, expected in numbers.items():
        assert [(event.step, event.value) for event in loaded.Scalars(name)] == [
            (step, pytest.approx(value, rel=1e-6, nan_ok=True)) for step, value in expected
        ]
    assert {(name, event.step) for name in tags["images"] for event in loaded.Images(name)} == {
        (name, step) for kind, name, step in others if kind == "image"
    }
    assert {(name, event.step) for name in tags["audio"] for event in loaded.Audio(name)} == {
        (name, step) for kind, name, step in others if kind == "audio"
    }
    assert {tag.removesuffix("/text_summary") for tag in tags["tensors"]} == {
        name for kind, name, _ in others if kind == "table"
    }
    described = {name: loaded.SummaryMetadata(name).summary_description for name in captions}
    assert described == {name: f"    {text}" for name, text in captions.items()}


def test_comet_has_everything(killed, rows, captions, tmp_path, capsys):
    if find_spec("comet_ml") is None:  # importing it here would turn on its error reports
        pytest.skip("comet-ml is not installed")
    numbers, others = rows
    folder = sent(killed, tmp_path, "comet", capsys)
    archive = CometArchive(folder / "000.zip")
    assert archive.about["project_name"] == "asr"
    for name, expected in numbers.items():
        assert [(step, float(value)) for step, value in archive.metrics(name)] == [
            (step, pytest.approx(value, nan_ok=True)) for step, value in expected
        ]
    names = [message["additional_params"] for message in archive.payloads("file_upload")]
    sounds = {(one["fileName"], one["step"]) for one in names if str(one.get("fileName", "")).endswith(".wav")}
    assert sounds == {(f"{name}.wav", step) for kind, name, step in others if kind == "audio"}
    pictures = {(one["figName"], one["step"]) for one in names if "figName" in one}
    assert pictures == {(name, step) for kind, name, step in others if kind == "image"}
    tables = {one["fileName"] for one in names if str(one.get("fileName", "")).endswith(".csv")}
    assert tables == {f"{name}-{step:08d}.csv" for kind, name, step in others if kind == "table"}
    assert archive.parameters()["model|type"] == "DeepSpeech2"
    described = {}
    for payload in archive.payloads("file_upload"):
        about, caption = payload["additional_params"], (payload["metadata"] or {}).get("caption")
        described |= {about.get("figName", about.get("fileName", "")).removesuffix(".wav"): caption} if caption else {}
    assert described == captions


def test_wandb_has_everything(killed, rows, captions, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    numbers, others = rows
    # A process of its own: W&B writes in another one, which is waited for at the end.
    command = [sys.executable, "-m", "hw_base.upload", str(killed), "--to", "wandb", "--offline", "--project", "asr"]
    done = subprocess.run([*command, "-o", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    run = WandbFolder(next((tmp_path / "wandb").glob("offline-run-*")))
    assert (run.run.project, run.run.display_name) == ("asr", "tiny_ds2 killed")
    for name, expected in numbers.items():
        assert run.curve(name) == [(step, pytest.approx(value, nan_ok=True)) for step, value in expected]
    media = {(key[:-5], row["step"]) for row in run.rows() for key in row if key.endswith("/path")}
    assert media == {(name, step) for _, name, step in others}
    values = {key: value for row in run.rows() for key, value in row.items()}
    assert {name: values[f"{name}/caption"] for name in captions} == captions


def test_what_is_no_run_and_a_tracker_without_a_key_are_one_line(killed, tmp_path, capsys, monkeypatch):
    assert upload.main([str(tmp_path), "--to", "tensorboard"]) == 2
    assert "metrics.jsonl: there is no such file; expected the folder of a run" in capsys.readouterr().err
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert upload.main([str(killed), "--to", "wandb", "-o", str(tmp_path / "u")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]  # W&B warns of what is its own before
    assert last.startswith("error: WandbWriter: mode 'online' needs a key")


@pytest.mark.parametrize("size", [None, 0, 20, 60])
def test_media_that_are_missing_or_incomplete_are_counted(size, killed, tmp_path, capsys, caplog):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    (tmp_path / "metrics.jsonl").write_bytes((killed / "metrics.jsonl").read_bytes())
    files = [row["file"] for row in read_rows(killed / "metrics.jsonl") if "file" in row]
    for name in files if size is not None else ():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((killed / name).read_bytes()[:size])
    assert upload.main([str(tmp_path), "--to", "tensorboard"]) == 0
    assert f"{len(files)} files of media are missing or incomplete and left out, the first: {tmp_path}" in caplog.text

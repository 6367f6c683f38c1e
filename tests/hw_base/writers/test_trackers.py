"""Comet and Weights & Biases without account or network: what lies in their offline archives.

Every report is made by a process of its own, with an empty home, no key, and a proxy that refuses every connection.
"""

import getpass
import io
import json
import os
import shlex
import signal
import socket
import struct
import subprocess
import sys
import wave
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import WRITERS
from hw_base.writers import CometWriter, WandbWriter
from tests.conftest import ROOT

PICTURE = (np.arange(105) * 2).astype(np.uint8).reshape(5, 7, 3)

REPORT = """
import json, logging, os, signal, sys, time
from pathlib import Path
name, run_dir, first, last, ending, extra = sys.argv[1:]
import numpy as np, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from hw_base.registry import WRITERS
import hw_base.writers
run_dir, state = Path(run_dir), Path(run_dir) / "state.json"
config = {"about": "expect " * 400}
config |= {"model": {"type": "Tiny", "args": {"n_hidden": 3}}, "root": str(Path.home() / "corpora")}
writer = WRITERS[name](run_dir=run_dir, run_name="my run", config=config, project="asr", **json.loads(extra))
if state.exists():
    writer.load_state_dict(json.loads(state.read_text()), int(first) - 1)
for step in range(int(first), int(last)):
    writer.scalars({"train/ctc": step / 2, "val/wer": float("nan")}, step)
writer.audio("val/sound", torch.full((160,), 0.25), 16000, step, "what is said")
writer.image("val/spectrogram", (np.arange(105) * 2).astype(np.uint8).reshape(5, 7, 3), step, "what is seen")
writer.text("val/note", "a <b> & c", step)
writer.table("val/predictions", ["target", "wer"], [["a, b", 0.5], ["ёж", 1]], step)
state.write_text(json.dumps(writer.state_dict()))
if ending == "kill":
    time.sleep(1.5)  # the trackers write from threads of their own
    os.kill(os.getpid(), signal.SIGKILL)
writer.close()
writer.close()
"""


class Run:
    """A run folder below a home folder, and the processes that report to it."""

    def __init__(self, tracker, folder):
        self.tracker = tracker
        self.home = folder / "home-of-somebody"
        self.dir = self.home / "run's folder"
        self.dir.mkdir(parents=True)

    def process(self, first, last, ending="close", **extra):
        refused = "http://127.0.0.1:9"
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("COMET", "WANDB"))}
        environment = clean | {
            "HOME": str(self.home),
            "HTTPS_PROXY": refused,
            "HTTP_PROXY": refused,
            "OMP_NUM_THREADS": "1",
        }
        arguments = [self.tracker, str(self.dir), str(first), str(last), ending, json.dumps(extra)]
        return subprocess.run(
            [sys.executable, "-c", REPORT, *arguments],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def finished(self, *arguments, **extra):
        done = self.process(*arguments, **extra)
        assert done.returncode == 0, done.stderr
        return done


# ---------------------------------------------------------------------- Comet


class CometArchive:
    def __init__(self, path):
        self.zip = zipfile.ZipFile(path)
        self.about = json.loads(self.zip.read("experiment.json"))
        self.messages = [json.loads(line) for line in self.zip.read("messages.json").decode().splitlines()]
        self.types = Counter(message["type"] for message in self.messages)

    def payloads(self, kind):
        return [message["payload"] for message in self.messages if message["type"] == kind]

    def metrics(self, name):
        metrics = [payload["metric"] for payload in self.payloads("metric_msg")]
        return [(metric["step"], metric["metricValue"]) for metric in metrics if metric["metricName"] == name]

    def parameters(self):
        """Values by name; Comet writes lists under another key."""
        messages = [payload.get("param") or payload["params"] for payload in self.payloads("parameter_msg")]
        return {one["paramName"]: one["paramValue"] for one in messages}

    def files(self):
        """Kind of upload -> its description and its bytes."""
        return {
            payload["upload_type"]: (payload, self.zip.read(payload["file_path"]))
            for payload in self.payloads("file_upload")
        }

    def everything(self):
        return b"".join(self.zip.read(name) for name in self.zip.namelist())


@pytest.fixture(scope="module")
def comet(tmp_path_factory):
    pytest.importorskip("comet_ml", reason="comet-ml is not installed")
    run = Run("CometWriter", tmp_path_factory.mktemp("comet"))
    killed = run.process(1, 6, "kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run.left_by_the_kill = sorted(path.name for path in (run.dir / "comet").iterdir())
    run.output = run.finished(6, 8)
    run.finished(8, 9)
    return run


def test_comet_makes_one_archive_for_each_process_that_ends(comet):
    assert comet.left_by_the_kill == ["000", "upload.txt"]
    assert sorted(path.name for path in (comet.dir / "comet").iterdir()) == ["001.zip", "002.zip", "upload.txt"]
    for number, steps in ((1, range(6, 8)), (2, range(8, 9))):
        archive = CometArchive(comet.dir / "comet" / f"00{number}.zip")
        assert archive.metrics("train/ctc") == [(step, step / 2) for step in steps]
        assert archive.metrics("val/wer") == [(step, "NaN") for step in steps]
        assert set(archive.files()) == {"visualization", "audio", "text-sample", "asset"}


def test_comet_says_how_to_send_what_a_killed_process_reported(comet):
    command = f"python -m hw_base.upload {shlex.quote(str(comet.dir))} --to comet"
    assert f"an earlier process was killed before Comet made its archive: {command}\n" in comet.output.stderr
    assert command in (comet.dir / "comet" / "upload.txt").read_text()


def test_comet_continues_the_experiment(comet):
    about = [CometArchive(comet.dir / "comet" / f"00{number}.zip").about for number in (1, 2)]
    assert len({one["offline_id"] for one in about}) == 1
    assert {one["resume_strategy"] for one in about} == {"get_or_create"}
    assert {one["project_name"] for one in about} == {"asr"}


def test_comet_has_picture_sound_text_table_and_config(comet):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    archive = CometArchive(comet.dir / "comet" / "001.zip")
    files = archive.files()
    picture, content = files["visualization"]
    assert (picture["additional_params"]["figName"], picture["additional_params"]["step"]) == ("val/spectrogram", 7)
    assert np.array_equal(np.array(pillow.open(io.BytesIO(content))), PICTURE)
    sound, content = files["audio"]
    assert sound["additional_params"]["fileName"] == "val/sound.wav"
    assert [one["metadata"]["caption"] for one in (sound, picture)] == ["what is said", "what is seen"]
    with wave.open(io.BytesIO(content)) as file:
        assert np.frombuffer(file.readframes(999), "<i2").tolist() == [8192] * 160
    assert files["text-sample"][1] == b"a <b> & c"
    table, content = files["asset"]
    assert table["additional_params"]["fileName"] == "val/predictions-00000007.csv"
    assert content.decode().split() == ["target,wer", '"a,', 'b",0.5', "ёж,1"]
    parameters = archive.parameters()
    assert parameters["model|args|n_hidden"] == 3
    assert "about" not in parameters  # which may be longer than Comet's 2,000 characters: it is a text
    assert parameters["root"] == "~/corpora"
    names = [one["value"] for one in archive.payloads("log_other") if one["key"] == "Name"]
    assert names == ["my run"]


def test_comet_sends_nothing_personal(comet):
    for number in (1, 2):
        archive = CometArchive(comet.dir / "comet" / f"00{number}.zip")
        assert set(archive.types) == {"log_other", "metric_msg", "parameter_msg", "file_upload"}
        for secret in (b"home-of-somebody", str(ROOT).encode(), b"hw_base"):
            assert secret not in archive.everything()


@pytest.mark.slow
def test_comet_sends_the_environment_when_asked(tmp_path):
    pytest.importorskip("comet_ml", reason="comet-ml is not installed")
    run = Run("CometWriter", tmp_path)
    run.finished(1, 2, send_environment=True)
    archive = CometArchive(run.dir / "comet" / "000.zip")
    assert "system_details" in archive.types
    assert socket.gethostname().encode() in archive.everything()


def test_the_upload_command_of_comet_is_printed_and_written(comet):
    command = comet.output.stderr.split("to send this run to comet.com: ")[1].splitlines()[0]
    assert command in (comet.dir / "comet" / "upload.txt").read_text()
    listed = subprocess.run(["sh", "-c", command.replace("comet upload", "ls", 1)], capture_output=True, text=True)
    assert [Path(line).name for line in listed.stdout.splitlines()] == ["001.zip", "002.zip"]


# ---------------------------------------------------------------------- Weights & Biases


def wandb_records(path):
    """Records of a ``.wandb`` file: LevelDB's log format, blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, record = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        room = 32768 - place % 32768
        if room < 7:
            place += room
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        part = data[place + 7 : place + 7 + length]
        place += 7 + length
        record = part if kind in (1, 2) else record + part
        if kind in (1, 4):  # whole, or the last of its parts
            yield wandb_internal_pb2.Record.FromString(record)


class WandbFolder:
    def __init__(self, folder):
        self.folder = folder
        (path,) = folder.glob("*.wandb")
        self.raw = path.read_bytes()
        self.records = list(wandb_records(path))
        self.run = next(record.run for record in self.records if record.WhichOneof("record_type") == "run")
        self.kinds = {record.WhichOneof("record_type") for record in self.records}

    def rows(self):
        for record in self.records:
            if record.WhichOneof("record_type") == "history":
                yield {
                    item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item
                }

    def curve(self, name):
        return [(row["step"], row[name]) for row in self.rows() if name in row]


def wandb_folders(run):
    return [WandbFolder(path) for path in sorted((run.dir / "wandb").glob("offline-run-*"))]


@pytest.fixture(scope="module")
def wandb(tmp_path_factory):
    pytest.importorskip("wandb", reason="wandb is not installed")
    run = Run("WandbWriter", tmp_path_factory.mktemp("wandb"))
    killed = run.process(1, 6, "kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run.output = run.finished(6, 8)
    return run


def test_wandb_keeps_every_value_also_of_the_killed_process(wandb):
    killed, resumed = wandb_folders(wandb)
    for folder, steps in ((killed, range(1, 6)), (resumed, range(6, 8))):
        assert folder.curve("train/ctc") == [(step, step / 2) for step in steps]
        assert [str(value) for _, value in folder.curve("val/wer")] == ["nan"] * len(steps)


def test_wandb_continues_the_run(wandb):
    runs = [folder.run for folder in wandb_folders(wandb)]
    assert len({run.run_id for run in runs}) == 1
    assert {(run.project, run.display_name) for run in runs} == {("asr", "my run")}


def test_wandb_draws_over_the_step(wandb):
    metrics = [
        record.metric for record in wandb_folders(wandb)[0].records if record.WhichOneof("record_type") == "metric"
    ]
    assert [(metric.glob_name, metric.step_metric) for metric in metrics if metric.glob_name] == [("*", "step")]


def test_wandb_has_picture_sound_text_table_and_config(wandb):
    pillow = pytest.importorskip("PIL.Image", reason="Pillow reads the picture back")
    first = wandb_folders(wandb)[0]  # of the killed process
    values = {name: value for row in first.rows() for name, value in row.items()}
    files = {name[:-5]: first.folder / "files" / path for name, path in values.items() if name.endswith("/path")}
    assert set(files) == {"val/sound", "val/spectrogram", "val/note", "val/predictions"}
    assert np.array_equal(np.array(pillow.open(files["val/spectrogram"])), PICTURE)
    with wave.open(str(files["val/sound"])) as sound:
        assert np.frombuffer(sound.readframes(999), "<i2").tolist() == [8192] * 160
    assert (values["val/sound/caption"], values["val/spectrogram/caption"]) == ("what is said", "what is seen")
    assert "a &lt;b&gt; &amp; c" in files["val/note"].read_text()
    table = json.loads(files["val/predictions"].read_text())
    assert (table["columns"], table["data"]) == (["target", "wer"], [["a, b", 0.5], ["ёж", 1]])
    config = {item.key: json.loads(item.value_json) for item in first.run.config.update}
    assert config["model"] == {"type": "Tiny", "args": {"n_hidden": 3}}
    assert config["root"] == "~/corpora"


def test_wandb_sends_nothing_personal(wandb):
    for folder in wandb_folders(wandb):
        assert folder.run.host == ""
        assert not folder.run.HasField("git")
        assert not {"environment", "stats", "output", "output_raw"} & folder.kinds
        for record in folder.records:
            for content in record.artifact.manifest.contents:
                content.ClearField("local_path")  # where the upload finds the file
            for secret in (b"home-of-somebody", str(ROOT).encode(), b"hw_base"):
                assert secret not in record.SerializeToString()
        assert sorted(os.listdir(folder.folder / "files")) == ["media"]


@pytest.mark.slow
def test_wandb_sends_the_environment_when_asked(tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed")
    run = Run("WandbWriter", tmp_path)
    run.finished(1, 2, send_environment=True)
    (folder,) = wandb_folders(run)
    assert folder.run.host == socket.gethostname()
    assert "environment" in folder.kinds
    assert getpass.getuser().encode() in folder.raw


def test_the_upload_command_of_wandb_is_printed_and_written(wandb):
    command = wandb.output.stderr.split("to send this run to wandb.ai: ")[1].splitlines()[0]
    assert command in (wandb.dir / "wandb" / "upload.txt").read_text()
    listed = subprocess.run(["sh", "-c", command.replace("wandb sync", "ls -d", 1)], capture_output=True, text=True)
    assert len(listed.stdout.splitlines()) == 2


def test_wandb_says_that_pictures_are_left_out_without_pillow(tmp_path, monkeypatch, caplog):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setitem(sys.modules, "PIL", None)
    writer = WandbWriter(tmp_path, "run", {})
    assert "leaves out all pictures, for want of a package: pip install Pillow" in caplog.text
    writer.image("val/spectrogram", PICTURE, 1)
    assert os.listdir(tmp_path) == []


# ---------------------------------------------------------------------- both


@pytest.mark.parametrize(
    ("name", "module", "package"), [("CometWriter", "comet_ml", "comet-ml"), ("WandbWriter", "wandb", "wandb")]
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingPackageError, match=rf"{name} needs .*pip install {package}"):
        WRITERS[name](tmp_path, "run", {})


@pytest.mark.parametrize(
    ("kind", "module", "key"), [(CometWriter, "comet_ml", "COMET_API_KEY"), (WandbWriter, "wandb", "WANDB_API_KEY")]
)
def test_online_without_a_key_is_a_mistake_and_no_question(tmp_path, monkeypatch, kind, module, key):
    pytest.importorskip(module, reason=f"{module} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv(key, raising=False)
    with pytest.raises(ConfigError, match=f"mode 'online' needs a key: set {key}"):
        kind(tmp_path, "run", {}, mode="online")


@pytest.mark.parametrize(("kind", "module"), [(CometWriter, "comet_ml"), (WandbWriter, "wandb")])
def test_nothing_is_created_before_the_first_report(tmp_path, kind, module):
    pytest.importorskip(module, reason=f"{module} is not installed")
    writer = kind(tmp_path, "run", {})
    again = kind(tmp_path, "run", {})
    assert writer.state_dict() != again.state_dict()
    again.load_state_dict(writer.state_dict(), 3)
    assert writer.state_dict() == again.state_dict()
    writer.close()
    assert os.listdir(tmp_path) == []

"""Run folders: which is the newest, who may write, what a killed process leaves, what a signal asks for."""

import errno
import fcntl
import json
import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import train as train_script
from hw_base import checkpoint
from hw_base.errors import CheckpointError, ConfigError, InterruptedRun
from hw_base.runs import folder, logs
from hw_base.writers import read_rows
from tests.conftest import ROOT

TINY = str(ROOT / "configs" / "tiny" / "ds2.json")


def train(*arguments):
    return train_script.main(["-c", TINY, "-d", "cpu", *map(str, arguments)])


def test_a_run_folder_is_made_with_those_above_it(tmp_path):
    folder.RunFolder(tmp_path / "a" / "b", resuming=False).close()
    assert (tmp_path / "a" / "b").is_dir()


def test_the_newest_run_is_the_one_written_last_whatever_its_name(tmp_path):
    for age, name in ((30, "20991231-000000"), (10, "a"), (20, "zz"), (0, "empty")):
        run = tmp_path / "x" / name
        run.mkdir(parents=True)
        if name != "empty":
            checkpoint.save(checkpoint.path_of(run, 1), {"step": 1})
            os.utime(checkpoint.path_of(run, 1), (time.time() - age, time.time() - age))
    assert folder.newest_run("x", str(tmp_path)) == tmp_path / "x" / "a"
    assert folder.newest_run("y", str(tmp_path)) is None


_ORPHAN = """
import os, sys, time
from pathlib import Path
from hw_base.runs.folder import RunFolder
held = RunFolder(Path(sys.argv[1]), resuming=True)
if os.fork() == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
time.sleep(60)
"""


def test_the_children_of_a_killed_run_do_not_hold_its_folder(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", _ORPHAN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    child = int(run.stdout.readline())
    try:
        with pytest.raises(ConfigError, match="another process is training in this folder"):
            folder.RunFolder(tmp_path, resuming=True)
        run.kill()
        run.wait()
        folder.RunFolder(tmp_path, resuming=True).close()
    finally:
        run.stdout.close()
        os.kill(child, signal.SIGKILL)


def test_a_file_system_without_locks_is_named_as_such(tmp_path, monkeypatch, caplog):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    folder.RunFolder(tmp_path, resuming=False).close()
    assert "its file system cannot lock files (No locks available)" in caplog.text


def test_auto_begins_again_after_a_kill_before_the_first_checkpoint(tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    rows = [{"step": 0, "split": "val", "wer": 1.0}, {"step": 2, "split": "train", "ctc": 1.0}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "checkpoint-00000004.pth.tmp").write_bytes(b"half")
    assert train("--run-dir", run) == 2
    assert "holds a run already" in capsys.readouterr().err
    assert train("--run-dir", run, "-r", "auto", "--set", "trainer.max_steps=2") == 0
    assert not list(run.glob("*.tmp"))
    trained = [row["step"] for row in read_rows(run / "metrics.jsonl") if row["split"] == "train" and "ctc" in row]
    assert trained == [2]
    assert not any("wer" in row and row["step"] == 0 for row in read_rows(run / "metrics.jsonl"))


def test_an_older_checkpoint_does_not_rewind_the_run_in_its_own_folder(tmp_path, capsys):
    run = tmp_path / "run"
    assert train("--run-dir", run) == 0
    kept = {path.name: path.stat().st_size for path in run.iterdir()}
    for name in (checkpoint.BEST, "checkpoint-00000004.pth"):
        assert train_script.main(["-r", str(run / name), "-d", "cpu"]) == 2
        assert "would undo what checkpoint-00000008.pth holds; add --run-dir DIR" in capsys.readouterr().err
    assert {path.name: path.stat().st_size for path in run.iterdir()} == kept
    branch = tmp_path / "branch"
    arguments = [
        "-r",
        str(run / checkpoint.BEST),
        "-d",
        "cpu",
        "--run-dir",
        str(branch),
        "--set",
        "trainer.max_steps=6",
    ]
    assert train_script.main(arguments) == 0
    assert checkpoint.best_step(branch) is not None
    assert f"in {branch / checkpoint.BEST}" in capsys.readouterr().err


def test_another_vocabulary_is_refused_on_resuming(tmp_path, capsys):
    run = tmp_path / "run"
    assert train("--run-dir", run, "--set", "trainer.max_steps=2") == 0
    before = (run / "config.json").read_bytes()
    change = ["--set", "text_encoder.args.alphabet=abc", "--set", "trainer.max_steps=4"]
    assert train_script.main(["-r", str(run), "-d", "cpu", *change]) == 2
    assert "text_encoder: " in (said := capsys.readouterr().err)
    assert "was trained with another one, which cannot be changed on resuming" in said
    assert (run / "config.json").read_bytes() == before


def test_another_type_of_model_is_one_line(tmp_path, capsys):
    run = tmp_path / "run"
    assert train("--run-dir", run, "--set", "trainer.max_steps=2") == 0
    capsys.readouterr()
    other = str(ROOT / "configs" / "tiny" / "conformer.json")
    assert train_script.main(["-c", other, "-r", str(run), "-d", "cpu"]) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].endswith("holds a DeepSpeech2, the config's model is a Conformer")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 75)]
)
def test_a_signal_saves_and_tells_by_the_exit_code_what_it_was(tmp_path, number, code):
    """With workers, which get the signal too: a scheduler sends it to the whole group."""
    arguments = [sys.executable, "train.py", "-c", TINY, "-d", "cpu", "--run-dir", str(tmp_path / "run")]
    arguments += ["--set", "trainer.max_steps=100000", "--set", "data.train.workers=1", "--set", "trainer.log_every=1"]
    arguments += ["--set", "trainer.eval_every=90000"]
    before = signal.signal(number, signal.SIG_DFL)  # what `nohup make test` ignores would be ignored by the run too
    try:
        run = subprocess.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        signal.signal(number, before)
    for line in run.stderr:
        if line.startswith("step 1/"):
            os.killpg(run.pid, number)
            break
    said = run.stderr.read()
    assert run.wait(timeout=60) == code, said
    assert "all is saved" in said
    assert "Traceback" not in said
    assert checkpoint.newest_good(tmp_path / "run") is not None


def test_a_run_whose_hours_are_over_saves_and_is_resumed_to_the_same_weights(tmp_path, capsys):
    """The same as one that was never ended; the code asks a scheduler to queue it again."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    steps = ["--set", "trainer.max_steps=4", "trainer.eval_every=4"]
    assert train("--run-dir", whole, *steps) == 0
    limit = ["trainer.max_hours=1e-9"]  # over before the first step
    for step in range(1, 4):
        assert train("--run-dir", run, "-r", "auto", *steps, *limit) == 75
        said = capsys.readouterr().err
        assert f"trainer.max_hours are over at step {step}, all is saved: resume with --run-dir {run} -r auto" in said
        assert "Traceback" not in said
    assert len(checkpoint.numbered(run)) == 2  # another limit is no other run, of which more would be kept
    assert train("--run-dir", run, "-r", "auto", *steps, "trainer.max_hours=2") == 0
    (a, b) = (checkpoint.load(folder / "checkpoint-00000004.pth")["model"] for folder in (whole, run))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("hours", ["0", "-1", "1e9", "soon"])
def test_hours_that_are_none_are_refused(hours, tmp_path, capsys):
    assert train("--run-dir", tmp_path / "run", "--set", f"trainer.max_hours={hours}") == 2
    assert capsys.readouterr().err.startswith("error: trainer.max_hours: ")


def test_nohup_stays_in_force():
    from hw_base.training.interrupts import Interrupts

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.received == 0
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert interrupts.received == signal.SIGUSR1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert InterruptedRun(signal.SIGUSR1, "").exit_code == 75


def test_a_full_disk_is_lines_and_leaves_nothing_half_written(tmp_path, capsys):
    """The device that is always full stands for the disk."""
    handler = logs.to_file("/dev/full")

    logger = logging.getLogger("hw_base.test")
    for _ in range(3):
        logger.warning("a line")
    logs.stop(handler)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("/dev/full: cannot be written") == 1
    with pytest.raises(ConfigError, match=r"train\.log cannot be written"):
        logs.to_file(tmp_path / "missing" / "train.log")


def test_a_best_that_cannot_be_marked_is_one_line_and_no_file(tmp_path, monkeypatch):
    checkpoint.save(checkpoint.path_of(tmp_path, 1), {"step": 1})

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", fail)
    monkeypatch.setattr(checkpoint.shutil, "copyfile", fail)
    with pytest.raises(CheckpointError, match=r"not written: No space left on device \(1 MiB are needed, \d+ MiB are"):
        checkpoint.mark_best(checkpoint.path_of(tmp_path, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001.pth"]


def test_a_resumed_run_keeps_the_machine_it_began_on(tmp_path):
    run = folder.RunFolder(tmp_path, resuming=False)
    run.describe({"a": 1}, torch.device("cpu"))
    began = json.loads((tmp_path / "machine.json").read_text())
    assert began["torch"] == torch.__version__
    (tmp_path / "machine.json").write_text('{"torch": "older"}')
    run.describe({"a": 2}, torch.device("cpu"))
    run.close()
    assert json.loads((tmp_path / "machine.json").read_text()) == {"torch": "older"}
    assert json.loads((tmp_path / "config.json").read_text()) == {"a": 2}

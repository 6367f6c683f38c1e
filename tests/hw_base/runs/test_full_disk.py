"""A disk that is really full, at the start, while saving and while logging, and a file system without locks."""

import errno
import functools
import json
import os
import re
import shutil
import struct
import subprocess
import sys

import pytest

from hw_base import checkpoint
from hw_base.training.trainer import BaseTrainer
from tests.conftest import ROOT, same
from tests.hw_base.runs import tiny

SETS = ["--set", "writers=[]", "trainer.log_every=1", "trainer.preflight=false"]


class Disk:
    """A file system of a few megabytes that can be filled to the last byte.

    Attributes:
        folder: where it is mounted.
    """

    def __init__(self, folder, megabytes=6):
        self.folder, self._filler = folder, folder / "filler"
        folder.mkdir()
        mount = shutil.which("mount")
        command = [mount or "mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True) if mount else None
        if done is None or done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip() if done else 'no mount'}")

    def fill(self):
        block = 1 << 16
        with open(self._filler, "ab", buffering=0) as file:
            while block:
                try:
                    file.write(bytes(block))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block //= 2

    def free(self):
        self._filler.unlink()

    def close(self):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path):
    mounted = Disk(tmp_path / "disk")
    yield mounted
    mounted.close()


train = functools.partial(tiny.train, SETS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that no disk disturbs."""
    return tiny.trained(SETS, tmp_path_factory.mktemp("whole") / "run")


def ends_like(whole, folder, besides=frozenset()):
    """Where the first best could not be written, another one is the best."""
    last = checkpoint.load(folder / "checkpoint-00000008.pth")
    parts = [key for key in whole if key not in {"config", "window", "writers", *besides}]
    return all(same(whole[key], last[key]) for key in parts)


def at_steps(monkeypatch, actions):
    """Before these steps the disk becomes full or free."""
    train_step = BaseTrainer.train_step

    def step(self, batch):
        if self.step + 1 in actions:
            actions.pop(self.step + 1)()
        train_step(self, batch)

    monkeypatch.setattr(BaseTrainer, "train_step", step)


def left_behind(folder):
    """Half-written files."""
    return [str(path) for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_full_disk_at_the_start_is_one_line(disk, capsys):
    disk.fill()
    assert train(disk.folder / "run") == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("error: ")
    assert "No space left" in error or "too full" in error
    assert left_behind(disk.folder) == []


@pytest.mark.parametrize("at", [2, 5])
def test_a_disk_that_stays_full_ends_with_what_was_saved_and_resumes_to_the_bit(at, disk, whole, monkeypatch, capsys):
    """Full before the first checkpoint, which is the best too, or before the last, which is better."""
    run = disk.folder / "run"
    at_steps(monkeypatch, {at: disk.fill})
    assert train(run) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(r"not written \(1 MiB are needed, 0 MiB are free there\): No space left on device", error)
    assert left_behind(run) == []
    names = sorted(path.name for path in run.glob("*.pth"))
    assert names == (["checkpoint-00000004.pth", "model_best.pth"] if at > 4 else [])
    if names:
        assert checkpoint.load(run / "model_best.pth")["step"] == 4
    disk.free()
    assert train(run, "-r", "auto") == 0
    assert ends_like(whole, run)
    assert checkpoint.best_step(run) == whole["monitor"]["best_step"]
    for line in (run / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("full", [(2, 3), (2, 6)])
def test_a_disk_that_was_full_for_a_while_costs_nothing_but_what_fell_in_between(
    full, disk, whole, monkeypatch, capsys
):
    run = disk.folder / "run"
    at_steps(monkeypatch, {full[0]: disk.fill, full[1]: disk.free})
    assert train(run) == 0
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert ends_like(whole, run, besides={"monitor"} if full[1] > 4 else set())
    assert len(re.findall("training continues with the older checkpoints", error)) == (full[1] > 4)
    assert left_behind(run) == []
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows if row["split"] == "train"} >= set(range(1, 9)) - set(range(full[0], full[1]))


def without_locks():
    """A program for the kernel (seccomp) that answers every ``flock`` with ENOLCK, as file systems without locks do."""
    number = {"x86_64": 73, "aarch64": 32}[os.uname().machine]
    load, equal, give = 0x20, 0x15, 0x06
    steps = ((load, 0, 0, 0), (equal, 0, 1, number), (give, 0, 0, 0x00050000 | errno.ENOLCK), (give, 0, 0, 0x7FFF0000))
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def test_a_file_system_without_locks_is_said_and_not_taken_for_another_process(tmp_path):
    """Training, the corpus it makes and the cache that it keeps."""
    if shutil.which("bwrap") is None or os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("needs bubblewrap, and the number of the system call")
    program = tmp_path / "filter"
    program.write_bytes(without_locks())
    cache = f"data.*.datasets.*.args.cache_dir={tmp_path / 'cache'}"
    with open(program, "rb") as file:
        command = ["bwrap", "--dev-bind", "/", "/", "--seccomp", str(file.fileno())]
        command += [
            sys.executable,
            "train.py",
            "-c",
            tiny.CONFIG,
            "-d",
            "cpu",
            "--run-dir",
            str(tmp_path / "run"),
            *SETS,
            cache,
        ]
        command += ["trainer.max_steps=1"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, pass_fds=[file.fileno()])
    if "bwrap:" in done.stderr:
        pytest.skip(f"no filter of system calls here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert "its file system cannot lock files (No locks available)" in done.stderr
    assert "another process" not in done.stderr.replace("no other process", "")
    assert (tmp_path / "run" / "checkpoint-00000001.pth").exists()

"""Checkpoints: complete or absent, verified, harmless."""

import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile

import pytest
import torch
from torch import nn

from hw_base import checkpoint
from hw_base.errors import CheckpointError
from tests.conftest import ROOT


@pytest.fixture
def saved(tmp_path):
    path = checkpoint.path_of(tmp_path, 7)
    checkpoint.save(path, {"model": {"w": torch.arange(5000.0)}, "step": 7, "nested": [(1, "x"), {"y": None}]})
    return path


def test_what_is_saved_is_loaded(saved):
    state = checkpoint.load(saved)
    assert torch.equal(state["model"]["w"], torch.arange(5000.0))
    assert state["step"] == 7
    assert state["nested"] == [(1, "x"), {"y": None}]
    assert os.listdir(saved.parent) == [saved.name]
    assert zipfile.ZipFile(saved).testzip() is None
    assert torch.load(saved, weights_only=True)["step"] == 7


def test_every_truncation_is_found(saved):
    content = saved.read_bytes()
    for share in range(20):
        saved.write_bytes(content[: len(content) * share // 20])
        with pytest.raises(CheckpointError, match="truncated"):
            checkpoint.load(saved)
    saved.write_bytes(content[:-1])
    with pytest.raises(CheckpointError):
        checkpoint.load(saved)


def test_every_flipped_bit_is_found(saved):
    content = saved.read_bytes()
    chosen = random.Random(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError):
            checkpoint.load(saved)
    saved.write_bytes(content)
    checkpoint.load(saved)


def test_the_length_of_the_checksum_is_checked_too(saved):
    """Otherwise the newest checkpoint counts as good, and cannot be loaded."""
    content = saved.read_bytes()
    for bit in range(16):
        damaged = bytearray(content)
        damaged[-73 + bit // 8] ^= 1 << bit % 8
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            checkpoint.verify(saved)


def test_what_cannot_be_written_gives_the_reason_and_the_space(tmp_path):
    (tmp_path / "file").write_text("")
    pattern = r"not written \(1 MiB are needed, (\d+) MiB are free there\): .*File exists"
    with pytest.raises(CheckpointError, match=pattern) as caught:
        checkpoint.save(tmp_path / "file" / "a.pth", {"step": 1})
    free = int(re.search(pattern, str(caught.value))[1])
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free / 2**20, rel=0.5)


def test_what_is_no_checkpoint_is_named(tmp_path):
    page = tmp_path / "page.pth"
    page.write_text("<html>404</html>")
    foreign = tmp_path / "foreign.pth"
    torch.save({"state_dict": {}}, foreign)
    for path, expected in (
        (page, "not a checkpoint"),
        (foreign, "not a checkpoint"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(CheckpointError, match=expected) as caught:
            checkpoint.load(path)
        assert str(path) in str(caught.value)
    with pytest.raises(CheckpointError, match=r"page\.pth: not a readable torch file: File is not a zip file"):
        checkpoint.load_untrusted(page)
    old = tmp_path / "old.pth"
    checkpoint.save(old, {"format": 999})
    with pytest.raises(CheckpointError, match="checkpoint format 999; this version reads 2 and before"):
        checkpoint.load(old)


class _Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


def _seal(path):
    checkpoint._seal(path)  # an attacker can compute a checksum too


def test_a_hostile_pickle_is_refused_and_not_run(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"format": 1, "model": _Touch(trace)}, path)
    _seal(path)
    with pytest.raises(CheckpointError, match=r"more than tensors and plain containers: \w+ \w+ \w+") as caught:
        checkpoint.load(path)
    assert "\n" not in str(caught.value)
    raw = tmp_path / "raw.pth"
    raw.write_bytes(pickle.dumps(_Touch(trace)))
    with pytest.raises(CheckpointError):
        checkpoint.load_untrusted(raw)
    assert not trace.exists()


def test_a_small_file_cannot_become_a_huge_tensor(tmp_path):
    huge = tmp_path / "huge.pth"
    torch.save({"format": 1, "w": torch.zeros(1).as_strided((10**6, 10**6), (0, 0))}, huge)
    with pytest.raises(CheckpointError, match="larger than what is stored"):
        checkpoint.load_untrusted(huge)
    bomb = tmp_path / "bomb.pth"
    torch.save({"w": torch.zeros(10**6)}, huge)
    with zipfile.ZipFile(huge) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    assert bomb.stat().st_size < 10**5
    with pytest.raises(CheckpointError, match="compressed"):
        checkpoint.load_untrusted(bomb)


_FULL = """
import resource, signal, sys, torch
from pathlib import Path
from hw_base import checkpoint
from hw_base.errors import CheckpointError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.save(Path(sys.argv[1]), {"step": 8, "model": {"w": torch.zeros(1_000_000)}})
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_loses_nothing(saved):
    before = saved.read_bytes()
    arguments = [sys.executable, "-c", _FULL, str(saved)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{saved}: not written (")
    assert "MiB are free there" in done.stdout
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


def test_best_prune_sweep_and_set_aside(tmp_path, caplog):
    for step in (1, 2, 3, 4):
        checkpoint.save(checkpoint.path_of(tmp_path, step), {"step": step})
        if step == 2:
            checkpoint.mark_best(checkpoint.path_of(tmp_path, step))
    checkpoint.prune(tmp_path, keep=2)
    assert [p.name for p in checkpoint.numbered(tmp_path)] == ["checkpoint-00000004.pth", "checkpoint-00000003.pth"]
    assert checkpoint.load(tmp_path / checkpoint.BEST)["step"] == 2
    (tmp_path / "checkpoint-00000009.pth.tmp").write_bytes(b"half")
    (tmp_path / "config.json.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_text("somebody's own")
    checkpoint.sweep(tmp_path)
    assert [path.name for path in tmp_path.glob("*.tmp")] == ["notes.tmp"]
    checkpoint.path_of(tmp_path, 4).write_bytes(b"damaged")
    assert checkpoint.newest_good(tmp_path) == checkpoint.path_of(tmp_path, 3)
    checkpoint.set_aside(tmp_path, 3)
    assert [p.name for p in checkpoint.numbered(tmp_path)] == ["checkpoint-00000003.pth"]
    assert (tmp_path / "checkpoint-00000004.pth.aside").exists()
    assert (
        "04.pth is later than the step training resumes from; renamed to checkpoint-00000004.pth.aside" in caplog.text
    )


def test_weights_of_another_model_are_listed(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_weights(nn.Linear(3, 2), {"weight": torch.zeros(2, 4), "extra": torch.zeros(1)}, "x.pth")
    message = str(caught.value)
    for part in ("x.pth", "missing bias", "unexpected extra", "weight is (2, 4), the model has (2, 3)"):
        assert part in message


_SAVER = """
import sys, torch
from pathlib import Path
from hw_base import checkpoint
folder, step = Path(sys.argv[1]), 0
weights = torch.randn(1_000_000)
while True:
    step += 1
    path = checkpoint.path_of(folder, step)
    checkpoint.save(path, {"step": step, "model": {"w": weights + step}})
    checkpoint.mark_best(path)
    checkpoint.prune(folder, 2)
    print(step, flush=True)
"""


def test_kill_9_while_saving_never_leaves_a_bad_checkpoint(tmp_path):
    delays = random.Random(1)
    for trial in range(6):
        folder = tmp_path / str(trial)
        folder.mkdir()
        arguments = [sys.executable, "-c", _SAVER, str(folder)]
        process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        time.sleep(delays.uniform(0.0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        good = [checkpoint.load(path)["step"] for path in checkpoint.numbered(folder)]
        assert good
        assert checkpoint.load(folder / checkpoint.BEST)["step"] in (max(good), max(good) - 1)
        process.stdout.close()

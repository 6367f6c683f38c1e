"""Two real processes against one: the same losses, the same metrics, one writer."""

import json
import os
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TINY = "configs/tiny/ds2.json"
# Without dropout (each process draws its own masks), AMP, and an optimizer that divides by small numbers: sums differ
# by their order alone.
SETS = [
    "trainer.max_steps=6",
    "trainer.log_every=1",
    "trainer.eval_every=3",
    "trainer.amp=off",
    "model.args.dropout=0.0",
    'optimizers.model={"type": "SGD", "args": {"lr": 0.01}, "clip_norm": 5.0}',
    "data.train.batch_size=5",
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(folder, processes, *arguments):
    command = [sys.executable, "train.py"]
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        command += [f"--master_port={free_port()}", "train.py"]
    command += ["-c", TINY, "-d", "cpu", "--run-dir", str(folder), *arguments]
    for item in SETS:
        command += ["--set", item]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()], done.stderr


def figures(rows, split, *names):
    return [[row[name] for name in names] for row in rows if row["split"] == split and names[0] in row]


def test_two_processes_equal_one(tmp_path):
    one, _ = run(tmp_path / "one", 1)
    two, said = run(tmp_path / "two", 2)
    assert said.count("run folder:") == 1
    norms = [figures(rows, "train", "grad_norm")[0] for rows in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)  # of equal weights
    first, last = figures(one, "val", "loss")
    assert abs(first[0] - last[0]) > 1e-3 * last[0]  # the weights have moved
    for split, names, tolerance in (
        ("train", ("ctc", "loss"), 1e-6),
        ("train", ("grad_norm",), 1e-4),  # of weights that differ by rounding
        ("val", ("ctc", "loss", "wer", "cer"), 1e-6),
    ):
        expected, got = figures(one, split, *names), figures(two, split, *names)
        assert len(expected) == (6 if split == "train" else 2)
        for a, b in zip(expected, got, strict=True):
            assert b == pytest.approx(a, rel=tolerance, abs=1e-6)

"""Two real processes against one: the same losses, the same metrics, one writer."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import test as test_script
from tests.conftest import ROOT

TINY = "configs/tiny/ds2.json"
TRANSDUCER = "configs/tiny/transducer.json"
# Without dropout (each process draws its own masks), AMP, and an optimizer that divides by small numbers: sums differ
# by their order alone.
SETS = [
    "trainer.max_steps=6",
    "trainer.log_every=1",
    "trainer.eval_every=3",
    "trainer.amp=off",
    'optimizers.model={"type": "SGD", "args": {"lr": 0.01}, "clip_norm": 5.0}',
    "data.train.batch_size=5",
]
DROPOUT = {
    TINY: ["model.args.dropout=0.0"],
    TRANSDUCER: ["model.args.encoder.args.dropout=0.0", "model.args.predictor.args.dropout=0.0"],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(folder, processes, config=TINY):
    command = [sys.executable, "train.py"]
    if processes > 1:
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}"]
        command += [f"--master_port={free_port()}", "train.py"]
    command += ["-c", config, "-d", "cpu", "--run-dir", str(folder)]
    for item in SETS + DROPOUT[config]:
        command += ["--set", item]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()], done.stderr


def figures(rows, split, *names):
    return [[row[name] for name in names] for row in rows if row["split"] == split and names[0] in row]


@pytest.mark.parametrize(("config", "losses"), [(TINY, ("ctc",)), (TRANSDUCER, ("transducer", "ctc"))])
def test_two_processes_equal_one(config, losses, tmp_path):
    one, _ = run(tmp_path / "one", 1, config)
    two, said = run(tmp_path / "two", 2, config)
    assert said.count("run folder:") == 1
    assert "replicas_drift" not in said
    norms = [figures(rows, "train", "grad_norm")[0] for rows in (one, two)]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)  # of equal weights
    first, last = figures(one, "val", "loss")
    assert abs(first[0] - last[0]) > 1e-3 * last[0]  # the weights have moved
    for split, names, tolerance in (
        ("train", (*losses, "loss"), 1e-6),
        ("train", ("grad_norm",), 1e-4),  # of weights that differ by rounding
        ("val", (*losses, "loss", "wer", "cer"), 1e-6),
    ):
        expected, got = figures(one, split, *names), figures(two, split, *names)
        assert len(expected) == (6 if split == "train" else 2)
        for a, b in zip(expected, got, strict=True):
            assert b == pytest.approx(a, rel=tolerance, abs=1e-6)


DRIFT = """
import sys
from pathlib import Path

from hw_base import distributed, task_packages
from hw_base.config.resolve import read, resolve
from hw_base.runs.experiment import Experiment

task_packages.import_all()
device = distributed.start("cpu")
trainer = Experiment(resolve(read(sys.argv[1]), sys.argv[3:]), device).trainer(Path(sys.argv[2]))
if distributed.rank() == 1:
    next(trainer.model.parameters()).data.add_(0.1)
trainer.train()
"""


def test_processes_whose_weights_differ_are_told_apart(tmp_path):
    script = tmp_path / "drift.py"
    script.write_text(DRIFT)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += [str(script), TINY, str(tmp_path), "trainer.max_steps=2", *SETS[1:], *DROPOUT[TINY]]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 1
    assert "DisagreementError: the processes have drifted apart: " in done.stderr
    assert "convs.0.conv.weight differ between them" in done.stderr


@pytest.mark.parametrize("run", ["ds2/checkpoint-00000008.pth", "fastspeech2/checkpoint-00000004.pth"])
def test_two_processes_write_all_rows_in_the_order_of_the_data(run, tmp_path):
    """Of recognition and of synthesis; the figures are those of one process.

    An untrained voice has hardly any pitch: where rounding differs, as in other batches, so does what is found of it.
    """
    arguments = ["-r", str(ROOT / "tests" / "data" / "first_edition" / run), "-d", "cpu", "-b", "2"]
    assert test_script.main([*arguments, "-o", str(tmp_path / "one.json")]) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += ["test.py", *arguments, "-o", str(tmp_path / "two.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two"))
    for row in [*one, *two]:
        if row["audio_path"].startswith(str(tmp_path)):
            assert Path(row["audio_path"]).is_file()
            del row["audio_path"]  # each output has its own audio
    assert len({row["id"] for row in one}) == len(one) >= 2
    tolerance = 1e-6 if run.startswith("ds2") else 0.1
    for a, b in zip(one, two, strict=True):
        assert b.pop("metrics", {}) == pytest.approx(a.pop("metrics", {}), rel=tolerance)
        assert b.pop("weights", {}) == pytest.approx(a.pop("weights", {}), rel=tolerance)
    assert two == one
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["one.json"]["splits"].keys() == metrics["two.json"]["splits"].keys()
    for split, values in metrics["one.json"]["splits"].items():
        assert values
        assert metrics["two.json"]["splits"][split] == pytest.approx(values, rel=tolerance)
    assert done.stdout.count(" utterances -> ") == 1

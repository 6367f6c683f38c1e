"""Long runs: neither memory nor open files may grow."""

import json
import os
from pathlib import Path

import torch

from hw_base.training.trainer import BaseTrainer
from hw_base.writers import JsonlWriter, MultiWriter
from tests.faults import runs
from tests.faults.children import in_child
from tests.faults.table import row
from tests.hw_base.toys import Regressor, RegressorTrainer, batches, make

MEBIBYTE = 1 << 20


def used():
    """Resident memory in MiB, and open files."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE, len(os.listdir("/proc/self/fd"))


def toy(folder, length):
    """In a child: a long run of a toy; what was used after a fifth of it and at the end."""
    torch.manual_seed(0)
    writers = MultiWriter([JsonlWriter(folder / "metrics.jsonl")])
    section = {"type": "AdamW", "args": {"lr": 1e-3}, "scheduler": {"type": "OneCycleLR"}}
    options = {"max_steps": length, "log_every": 100, "eval_every": length // 20, "monitor": "min val/mse"}
    run = make(RegressorTrainer, Regressor(), batches(20), section, {}, writers=writers, run_dir=folder, **options)
    found = []
    after_step = run._after_step

    def looking(progress):
        if run.step in (length // 5, length):
            found.append(used())
        return after_step(progress)

    run._after_step = looking
    run.train()
    return found


def looked_at(steps, path):
    """In a child: write down what is used when these steps begin."""
    train_step = BaseTrainer.train_step

    def looking(self, batch):
        if self.step + 1 in steps:
            with open(path, "a") as file:
                file.write(json.dumps(used()) + "\n")
        train_step(self, batch)

    BaseTrainer.train_step = looking


def flat(found, most):
    (before, files_before), (after, files_after) = found
    assert after - before <= most, f"memory grew from {before:.1f} to {after:.1f} MiB"
    assert files_after <= files_before, f"open files grew from {files_before} to {files_after}"


@row(
    18,
    "10^5 steps of a toy model with 20 evaluations and checkpoints, 5,000 steps of a tiny DeepSpeech2 with a worker",
    "memory grows by at most 8 MiB (toy) and 32 MiB between a fifth of the run and its end, open files not at all",
    quick=False,
)
def endurance(trials):
    with trials.trial("a toy") as folder:
        ended = in_child(lambda: toy(folder, 100_000), folder, seconds=3000)
        assert ended.code == 0, ended.said[-500:]
        flat(ended.value, 8)
    with trials.trial("a tiny model") as folder:
        sets = ["trainer.max_steps=5000", "trainer.log_every=100", "trainer.eval_every=1000", "data.train.workers=1"]
        seen = folder / "used.jsonl"
        child = runs.start("ds2", folder / "run", *sets, before=lambda: looked_at((1000, 5000), seen))
        runs.well(child.end(3000))
        flat([json.loads(line) for line in seen.read_text().splitlines()], 32)

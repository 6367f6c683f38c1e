"""Two processes that train together: the same numbers as of one, and what becomes of them when one is lost."""

import math
import os
import re
import signal
import subprocess
import sys

import torch
from torch import nn

from hw_base.training.trainer import BaseTrainer
from tests.conftest import ROOT
from tests.faults import runs
from tests.faults.table import row

TIMEOUT = 4.0
_SGD = '{{"type": "SGD", "args": {{"lr": {lr}}}, "clip_norm": 5.0}}'
# Without an optimizer that divides by small numbers, sums differ by their order alone.
LENGTH = ["trainer.max_steps=3", "trainer.log_every=1", "trainer.eval_every=3", "trainer.amp=off"]
EQUAL = {
    "ds2": [f"optimizers.model={_SGD.format(lr=0.01)}", "data.train.batch_size=5"],
    "fastspeech2": [f"optimizers.model={_SGD.format(lr=0.01)}", "model.args.attention_dropout=0.0"],
    "vits2": [
        f"optimizers.{name}={_SGD.format(lr=0.0001)}"
        for name in ("duration_discriminator", "discriminator", "generator")
    ],
}


def without_chance(*_):
    """In a child: each process draws its own random numbers, so that nothing may depend on them here."""
    rand = torch.rand
    torch.randn_like = lambda x, **_: torch.zeros_like(x)
    torch.randn = lambda *size, generator=None, **options: torch.zeros(*size, **options)
    torch.rand = lambda *size, **options: torch.full_like(rand(*size, **options), 0.5)
    nn.Dropout.forward = lambda self, x: x


def losses(folder):
    """Of every step: the losses by name; a norm of gradients is no loss."""
    shown = ("lr", "epoch", "skipped_updates", "step", "split")
    found = {}
    for one in runs.rows(folder):
        if one["split"] == "train" and "epoch" in one:
            found[one["step"]] = {k: v for k, v in one.items() if k not in shown and not k.endswith("grad_norm")}
    return found


def two_equal_one(trials):
    for config, sets in EQUAL.items():
        with trials.trial(f"losses of {config} in two processes and in one") as folder:
            runs.well(runs.train(config, folder / "one", *LENGTH, *sets, before=without_chance))
            runs.well(*runs.train_two(config, folder / "two", *LENGTH, *sets, before=without_chance))
            one, two = losses(folder / "one"), losses(folder / "two")
            assert one.keys() == two.keys() == {1, 2, 3}
            for step, values in one.items():
                assert values.keys() == two[step].keys()
                for name, value in values.items():
                    close = math.isclose(value, two[step][name], rel_tol=1e-6, abs_tol=1e-6)
                    assert close, f"step {step}: {name} is {value} in one, {two[step][name]} in two"


def lost_at(step, number):
    """In the children: the second one receives a signal when this step begins."""

    def before(rank):
        train_step = BaseTrainer.train_step

        def lost(self, batch):
            if rank == 1 and self.step + 1 == step:
                os.kill(os.getpid(), number)
            train_step(self, batch)

        BaseTrainer.train_step = lost

    return before


def one_lost(trials):
    sets = ["trainer.eval_every=2", "trainer.log_every=1", f"trainer.timeout={TIMEOUT}", "trainer.max_steps=5"]
    for config in ("ds2", "fastspeech2", "hifigan", "vits2") if trials.whole else ("ds2",):
        whole = trials.new_folder() / "whole"
        runs.well(*runs.train_two(config, whole, *sets))
        for number, step in ((signal.SIGKILL, 1), (signal.SIGKILL, 4), (signal.SIGSTOP, 2), (signal.SIGSTOP, 5)):
            if not trials.whole and (number, step) != (signal.SIGKILL, 4):
                continue
            with trials.trial(f"{config}: {number.name} to one of two at step {step}") as folder:
                first, second = runs.start_two(config, folder / "run", *sets, before=lost_at(step, number))
                ended = first.end(seconds=60)
                if number == signal.SIGSTOP:
                    second.send(signal.SIGKILL)
                assert second.end().code == -signal.SIGKILL
                assert ended.code == 75, f"exit code {ended.code}: {ended.said[-500:]}"
                assert "Traceback" not in ended.said
                errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
                assert len(errors) == 1, errors
                assert "another process is gone, or did not come within the time-out" in errors[0]
                runs.well(*runs.train_two(config, folder / "run", *sets, resume=True))
                runs.equal(folder / "run", whole)


KILLED = """
import os, signal, sys
import train
from hw_base.training.trainer import BaseTrainer
train_step = BaseTrainer.train_step
def lost(self, batch):
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and self.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    train_step(self, batch)
BaseTrainer.train_step = lost
sys.exit(train.main(sys.argv[1:]))
"""


def torchrun_restarts(trials):
    with trials.trial("torchrun starts a job again whose second process was killed") as folder:
        (folder / "killed.py").write_text(KILLED)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command += ["--max-restarts=1", str(folder / "killed.py")]
        sets = ["trainer.eval_every=2", "trainer.log_every=1", "trainer.max_steps=5"]
        command += runs.arguments("ds2", folder / "run", *sets, resume=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-1500:]
        assert re.search(r"resumed from .*checkpoint-00000002\.pth, step 2", done.stderr), done.stderr[-1500:]
        runs.well(*runs.train_two("ds2", folder / "whole", *sets))
        runs.equal(folder / "run", folder / "whole")


@row(
    16,
    "two processes: one killed or hung, and started again, also by torchrun; the same losses as one process",
    "the other ends within `trainer.timeout` with a line and code 75, the restart ends as if nothing had been, to "
    "the bit; losses of CTC, FastSpeech2, VITS2 equal those of one process to 1e-6",
)
def several_processes(trials):
    one_lost(trials)
    if trials.whole:
        two_equal_one(trials)
        torchrun_restarts(trials)

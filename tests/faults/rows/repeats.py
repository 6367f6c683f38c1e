"""Runs that must give the same numbers: the same seed again, and other numbers of workers in between."""

import itertools
import os
import signal

from hw_base.training.trainer import BaseTrainer
from tests.conftest import same
from tests.faults import runs
from tests.faults.table import row

CONFIGS = ("ds2", "fastspeech2", "hifigan", "vits2", "conformer", "conformer_cr", "deepspeech", "conformer_bpe")


@row(
    17,
    "the same seed again, in every tiny config but the transducer's, with and without worker processes",
    "weights, moments, random states and every row of the record are equal to the bit; another seed differs",
)
def same_seed(trials):
    for config in CONFIGS if trials.whole else CONFIGS[:1]:
        for seed in (1, 7) if trials.whole else (1,):
            with trials.trial(f"{config}, seed {seed}") as folder:
                sets = [f"seed={seed}", "trainer.max_steps=4", "trainer.eval_every=2", "trainer.log_every=1"]
                for name, workers in (("one", 0), ("two", 2), ("three", 0))[: trials.size(2, 3)]:
                    runs.well(runs.train(config, folder / name, *sets, f"data.train.workers={workers}"))
                    runs.equal(folder / "one", folder / name)
    if not trials.whole:
        return
    with trials.trial("another seed") as folder:
        for name, seed in (("one", 1), ("two", 2)):
            runs.well(runs.train("ds2", folder / name, f"seed={seed}", "trainer.max_steps=2"))
        assert not same(runs.final(folder / "one")["model"], runs.final(folder / "two")["model"])


@row(
    2,
    "the number of worker processes (0, 2, 3) changed between two halves of a run",
    "the end is equal to the bit to that of a run which was never interrupted",
    quick=False,
)
def changed_workers(trials):
    sets = ["trainer.eval_every=2", "trainer.log_every=1", "trainer.max_steps=5"]
    for config in ("ds2", "fastspeech2", "hifigan", "vits2"):
        whole = trials.new_folder() / "whole"
        runs.well(runs.train(config, whole, *sets))
        for before, after in itertools.product((0, 2, 3), repeat=2):
            with trials.trial(f"{config}, {before} workers, then {after}") as folder:
                run = folder / "run"
                first = runs.train(config, run, *sets, f"data.train.workers={before}", before=lambda: stopping_at(2))
                assert first.code == 143, first.said[-500:]
                runs.well(runs.train(config, run, *sets, f"data.train.workers={after}", resume=True))
                runs.equal(run, whole)


def stopping_at(step):
    """In a child: the run receives SIGTERM within this step."""
    train_step = BaseTrainer.train_step

    def stopped(self, batch):
        if self.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        train_step(self, batch)

    BaseTrainer.train_step = stopped

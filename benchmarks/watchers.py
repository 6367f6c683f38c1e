"""What the watchers cost: process time of training with them, relative to without: ``python -m benchmarks.watchers``.

A step and a look are measured in turn, on one batch, with one thread; the least of the repeats counts. A look happens
at every logged step (``trainer.log_every`` of the config), the search for leftover gradients before every update.
"""

import argparse

import torch

from benchmarks.measuring import compare
from hw_base import task_packages
from hw_base.config.resolve import read, resolve
from hw_base.runs.experiment import Experiment
from hw_base.training import watching
from hw_base.training.trainer import BaseTrainer


def look(trainer: BaseTrainer) -> None:
    """What the loop does for the watchers at a logged step."""
    row = {"loss": 1.0, "grad_norm": 1.0, "data_wait": 0.0}
    trainer.watch.look(watching.seen(trainer, row, {}, trainer._steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--config", default="configs/ds2.json")
    parser.add_argument("--set", nargs="*", default=["data.train.datasets.0.args.n_utterances=64"])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task_packages.import_all()
    raw, sets = read(arguments.config), [*arguments.set, "trainer.amp=off"]
    every = resolve(raw, sets).trainer.log_every
    config = resolve(raw, [*sets, "trainer.log_every=1"])  # each step is one that is looked at
    trainer = Experiment(config, torch.device("cpu")).trainer(None, schedules=False)
    batch = next(iter(trainer.loader))
    trainer.train_step(dict(batch))
    sides = {
        "step": lambda: trainer.train_step(dict(batch)),
        "look": lambda: look(trainer),
        "leftover": lambda: trainer._steps.begin_update(trainer.optimizations),
    }
    step, seen, left = compare(sides, arguments.repeats, warm_up=False).values()
    print(f"{arguments.config}: {trainer.model.n_parameters():,} parameters, batch of {len(batch['utterance_id'])}")
    print(f"a look / a step: {seen / step:.4f}")
    print(f"before each update / a step: {left / step:.5f}")
    print(f"training with watchers / without, log_every {every}: {1 + seen / step / every + left / step:.4f}")


if __name__ == "__main__":
    main()

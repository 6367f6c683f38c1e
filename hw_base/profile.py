# PYTHON_ARGCOMPLETE_OK
"""``python -m hw_base.profile -c CONFIG``: where a training's time and memory go on this machine, and what would help.

Batches are made and steps are taken as in the training of the config, with its own data, model and device; nothing is
written but what a task caches of the data.
"""

import datetime
import json
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

import torch

from hw_base import distributed, task_packages
from hw_base.config.resolve import read, resolve
from hw_base.files.disk_space import mib
from hw_base.profiling import advice
from hw_base.profiling.advice import Profile
from hw_base.runs import cli
from hw_base.runs.experiment import Experiment, describe_device
from hw_base.runs.parser import Parser

# Modules and stages that are listed; the smaller ones are added up.
_SHOWN = 12


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_base.profile",
        "Measure where the time and the memory of a training go, and say what would help most.",
        ["-c configs/tiny/ds2.json", "-c configs/conformer.json --set data.train.workers=1 --steps 20 --json"],
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="JSON or YAML config")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    cli.add_import(parser)
    cli.add_set(parser)
    parser.add_argument(
        "--steps",
        type=cli.positive(int),
        default=10,
        help="batches and steps to measure (default: 10; at most an epoch)",
    )
    parser.add_argument("--threads", type=cli.positive(int), help="threads of torch, as OMP_NUM_THREADS sets them")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    arguments = parser.parse_args(argv)

    def work() -> int:
        config = resolve(read(arguments.config), [*arguments.set, "writers=[]"])
        device = distributed.start(arguments.device)
        for package in {"hw_base", *task_packages.PACKAGES.values()}:
            logging.getLogger(package).setLevel(logging.WARNING)
        before = torch.get_num_threads()
        torch.set_num_threads(arguments.threads or before)
        try:
            trainer = Experiment(config, device).trainer(None)
            found = advice.measure(trainer, arguments.steps)
        finally:
            torch.set_num_threads(before)
        where = describe_device(device, trainer.setup.amp_dtype)
        if arguments.json:
            print(json.dumps({"config": config.name, "device": where, "step": found.step, **asdict(found)}, indent=2))
        else:
            print("\n".join([f"{config.name}: {where}; {found.n_steps} steps", *_lines(found)]))
        return 0

    return cli.run(work, arguments.imports)


def _lines(found: Profile) -> Iterator[str]:
    yield from _table("one step", "ms", found.parts, 1000.0)
    yield from _table("making one batch", "ms", found.making, 1000.0)
    yield from _table("forward pass", "ms", found.forward, 1000.0)
    yield from _table("memory", "MiB", found.memory, 2.0**-20)
    whole = datetime.timedelta(seconds=round(found.training))
    yield ""
    yield f"peak memory {mib(found.peak)}; one evaluation {found.evaluation:.1f} s; padding {100 * found.padding:.1f} %"
    yield f"the whole training takes about {whole}"
    largest, share = next(iter(found.parts)), max(found.parts.values()) / found.step
    yield f"largest part: {largest}, {100 * share:.0f} % of a step; suggestion: {found.suggestion}"


def _table(title: str, unit: str, values: Mapping[str, float], factor: float) -> Iterator[str]:
    total = sum(values.values())
    yield ""
    yield f"{title:<44} {total * factor:>10.1f} {unit}"
    rows = list(values.items())
    shown = rows[:_SHOWN]
    if len(rows) > _SHOWN:
        shown.append((f"{len(rows) - _SHOWN} others", sum(value for _, value in rows[_SHOWN:])))
    for name, value in shown:
        yield f"  {name:<42} {value * factor:>10.1f} {100 * value / total if total else 0.0:>6.1f} %"


if __name__ == "__main__":
    sys.exit(main())

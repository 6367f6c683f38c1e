"""Small runs of the real command line in forked children, and what must be equal of two of them."""

import contextlib
import functools
import importlib
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import numpy as np

import train as train_script
from hw_base import checkpoint, distributed
from hw_base.writers import plots, read_rows
from hw_tts.evaluation import pictures
from tests.conftest import ROOT, same
from tests.faults.children import Child, Ended, in_child

# What two equal runs may differ in: times, and where they lie.
_TIMES = {"steps_per_second", "data_wait"}


def arguments(config: str, folder: Path, *sets: str, resume: bool = False) -> list[str]:
    """Of ``train.py`` for a tiny config; a resumed run takes what it trains from its checkpoint."""
    flags = ["-c", str(ROOT / "configs" / "tiny" / f"{config}.json"), "-d", "cpu", "--run-dir", str(folder)]
    return [*flags, *(["-r", "auto"] if resume else []), *(["--set", *sets] if sets else [])]


def _draw_nothing() -> None:
    """In a child: pictures are of one color. Drawing takes nine tenths of the time of a tiny run, and is not tested."""
    for module in (plots, pictures):
        module.rendered = lambda figure: np.zeros((4, 4, 3), np.uint8)


@functools.cache
def warm(config: str) -> None:
    """Import what a run imports on its way, which costs seconds in every child otherwise; nothing is computed here."""
    folder = Path(tempfile.mkdtemp())

    def work() -> list[str]:
        _draw_nothing()
        assert train_script.main(arguments(config, folder / "run", "trainer.max_steps=1")) == 0
        return sorted(sys.modules)

    for name in in_child(work, folder).value or ():
        if name not in sys.modules and name.partition(".")[0] != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    shutil.rmtree(folder)


def start(config: str, folder: Path, *sets: str, resume: bool = False, before=None, said=None) -> Child:
    """Start a run in a child; `before` is called there first, and what it prints goes to the file `said`."""
    warm(config)

    def work() -> None:
        _draw_nothing()
        if before is not None:
            before()
        raise SystemExit(train_script.main(arguments(config, folder, *sets, resume=resume)))

    return Child(work, said or folder.with_name(f"{folder.name}.said"))


def train(config: str, folder: Path, *sets: str, resume: bool = False, before=None, said=None) -> Ended:
    """A run in a child, to its end."""
    return start(config, folder, *sets, resume=resume, before=before, said=said).end()


def start_two(config: str, folder: Path, *sets: str, resume: bool = False, before=None) -> list[Child]:
    """A run of two processes, as ``torchrun`` would start them; `before` is called in each with its rank."""
    warm(config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def process(rank: int) -> Child:
        def work() -> None:
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in place.items()})
            _draw_nothing()
            if before is not None:
                before(rank)
            code = train_script.main(arguments(config, folder, *sets, resume=resume))
            distributed.stop()
            raise SystemExit(code)

        return Child(work, folder.with_name(f"{folder.name}.said{rank}"))

    return [process(rank) for rank in range(2)]


def train_two(config: str, folder: Path, *sets: str, resume: bool = False, before=None) -> list[Ended]:
    """A run of two processes, to its end."""
    return [child.end() for child in start_two(config, folder, *sets, resume=resume, before=before)]


def well(*ended: Ended) -> None:
    """Each ended with 0 and without a traceback."""
    for one in ended:
        assert one.code == 0, f"exit code {one.code}: {one.said[-800:]}"
        assert "Traceback" not in one.said, one.said[-2000:]


def final(folder: Path) -> dict:
    """The newest checkpoint, without what may differ: where the config says that things lie, and how they are read."""
    state = checkpoint.load(checkpoint.numbered(folder)[0])
    return {key: value for key, value in state.items() if key not in ("config", "writers")}


def rows(folder: Path) -> list[dict]:
    """The record, without times."""
    return [{k: v for k, v in row.items() if k not in _TIMES} for row in read_rows(folder / "metrics.jsonl")]


def equal(folder: Path, other: Path) -> None:
    """Two runs have ended alike: weights, moments, random states, counts and every row of the record, to the bit."""
    one, two = final(folder), final(other)
    differing = [key for key in one.keys() | two.keys() if not same(one.get(key), two.get(key))]
    assert not differing, f"their {', '.join(sorted(differing))} differ"
    # A run that resumes reports its rows again, and what is only reported once may move: order is not compared.
    mine, theirs = (sorted(map(repr, rows(place))) for place in (folder, other))
    assert mine == theirs, f"their rows differ: {sorted(set(mine) ^ set(theirs))[:3]}"
    assert checkpoint.best_step(folder) == checkpoint.best_step(other)

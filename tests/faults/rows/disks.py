"""Disks that become full or read-only, wherever the run stands then."""

import contextlib
import subprocess

import pytest

from hw_base import checkpoint, storage
from tests.conftest import same
from tests.faults import runs
from tests.faults.rows.kills import SHORT
from tests.faults.table import row


@contextlib.contextmanager
def small_disk(folder, kib):
    """A file system of this size."""
    place = folder / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", place], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"mounting is not allowed here ({done.stderr.strip().splitlines()[-1][-60:]})")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remounted(place, options):
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


def sound(run):
    """Everything that is there can be read, and nothing half written lies about."""
    for path in checkpoint.numbered(run):
        checkpoint.load(path, needs=checkpoint.RUN_PARTS)
    if (run / checkpoint.BEST).exists():
        checkpoint.load(run / checkpoint.BEST, needs=checkpoint.RUN_PARTS)
    assert not [path for path in run.rglob("*") if path.name.endswith(storage.TEMPORARY)]


def ended_well(ended):
    assert ended.code in (0, 2), f"exit code {ended.code}: {ended.said[-500:]}"
    assert "Traceback" not in ended.said, ended.said[-2000:]
    if ended.code == 2:
        assert any(words in ended.said for words in ("full", "No space", "MiB", "cannot be written", "Read-only")), (
            ended.said[-500:]
        )


@row(
    4,
    "a disk that is full at the start, while saving, at the best, at the last evaluation, while logging; read-only",
    "one line that names the space and code 2, or training goes on; what was written is sound; with room again "
    "`-r auto` ends with the weights of a run that had it all along",
)
def full_disks(trials):
    place = trials.new_folder()
    runs.well(runs.train("ds2", place / "whole", *SHORT))
    size = checkpoint.numbered(place / "whole")[0].stat().st_size // 1024
    weights = runs.final(place / "whole")["model"]
    sizes = [4, 12, 40, *(size * share // 8 + 30 for share in range(2, 44, 2))]
    for kib in sizes if trials.whole else sizes[9:10]:
        with trials.trial(f"a disk of {kib} KiB; a checkpoint has {size}") as folder, small_disk(folder, kib) as disk:
            run = disk / "run"
            ended_well(runs.train("ds2", run, *SHORT, said=folder / "said"))
            sound(run)
            remounted(disk, "size=64m")
            runs.well(runs.train("ds2", run, *SHORT, resume=True, said=folder / "said again"))
            sound(run)
            assert same(runs.final(run)["model"], weights)
    for step in (0, 2) if trials.whole else ():
        with trials.trial(f"read-only after step {step}") as folder, small_disk(folder, 65536) as disk:
            run = disk / "run"
            if step:
                runs.well(runs.train("ds2", run, *SHORT, f"trainer.max_steps={step}", said=folder / "said"))
            remounted(disk, "ro")
            ended = runs.train("ds2", run, *SHORT, resume=bool(step), said=folder / "said again")
            assert ended.code == 2
            ended_well(ended)
            if step:
                sound(run)

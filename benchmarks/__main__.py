"""Run what fits a CPU in twelve minutes and write it into RESULTS.md: ``python -m benchmarks``, or ``make bench``.

Each benchmark runs in a process of its own, on one thread, and leaves rows in ``benchmarks/results/NAME.json``. One
that takes longer than its share is ended, and what it measured last is kept. Most need less than their share: the small
ones of `IF_TIME_IS_LEFT` follow where there is enough. ``--write`` runs nothing.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import measuring
from benchmarks.measuring import RESULTS, Row

PAGE = Path(__file__).with_name("RESULTS.md")
BEGIN, END = "<!-- make bench writes from here -->\n", "<!-- to here -->\n"
MINUTES = 12.0
# Name, options, and the share of the time, in seconds.
BENCHMARKS: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("conformer_step", ("--repeats", "1"), 150),
    ("deepspeech2_step", ("--repeats", "2"), 120),
    ("fastspeech2_step", ("--repeats", "2"), 90),
    ("data_path", ("--repeats", "3"), 60),
    ("decoding", ("--repeats", "3", "--parts", "words", "long"), 150),
    ("vits2", ("--repeats", "3"), 60),
    ("vits2_step", ("--repeats", "2"), 90),
)
IF_TIME_IS_LEFT: tuple[tuple[str, tuple[str, ...], int], ...] = (
    ("alignment", (), 30),
    ("augmentations", ("--repeats", "10"), 40),
    ("griffin_lim", ("--repeats", "1"), 45),
)


def run(name: str, options: Sequence[str], seconds: float) -> str:
    """Run one benchmark; why it gave nothing, or nothing."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    print(f"\n{' '.join(command[1:])}", flush=True)
    try:
        subprocess.run(command, check=True, timeout=seconds, env={**os.environ, "OMP_NUM_THREADS": "1"})
    except subprocess.TimeoutExpired:
        return f"ended after {seconds:.0f} s"
    except subprocess.CalledProcessError as error:
        return f"failed with code {error.returncode}"
    return ""


def run_all(names: Sequence[str], minutes: float) -> dict[str, str]:
    """Run these benchmarks; by name, why one gave nothing."""
    ends, trouble = time.monotonic() + 60 * minutes, {}
    for name, options, seconds in BENCHMARKS + IF_TIME_IS_LEFT:
        share, left = seconds * minutes / MINUTES, ends - time.monotonic()
        if name not in names:
            continue
        if left < share and (name, options, seconds) in IF_TIME_IS_LEFT:
            print(f"\n{name} is left out: {left:.0f} s are left", flush=True)
        elif why := run(name, options, max(min(share, left), 1.0)):
            trouble[name] = why
    return trouble


def results(folder: Path) -> list[dict[str, Any]]:
    """What the benchmarks left, in the order of the tables above, then what others left."""
    order = [name for name, _, _ in BENCHMARKS + IF_TIME_IS_LEFT]
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda one: order.index(one["name"]) if one["name"] in order else len(order))


def page(contents: Sequence[dict[str, Any]], trouble: dict[str, str]) -> str:
    """The part of the page: for each benchmark its command, machine, date and rows; first what falls short.

    Args:
        contents: of the JSON files.
        trouble: by name, why there are no new figures.
    """
    rows = [(one["name"], _row(row)) for one in contents for row in one["rows"]]
    short = [
        f"* {name}: {row.work}, {row.peer}, {row.kind}: {row.ratio:.2f}x of {row.goal:g}x"
        for name, row in rows
        if row.met is False
    ]
    met, goals = sum(row.met is True for _, row in rows), sum(row.met is not None for _, row in rows)
    lines = [f"{met} of {goals} goals are met." + (" Not met:" if short else ""), *([""] if short else []), *short]
    for one in contents:
        lines += ["", f"### {one['name']}", "", f"`{one['command']}`, {one['date']}, {one['machine']}."]
        if one["name"] in trouble:
            lines += ["", f"Of an earlier run: this one {trouble[one['name']]}."]
        lines += ["", measuring.table([_row(row) for row in one["rows"]])]
    known = {one["name"] for one in contents}
    lines += [f"\n### {name}\n\nNot measured: {why}." for name, why in trouble.items() if name not in known]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> Row:
    return Row(**{key: value for key, value in row.items() if key != "met"})


def rewrite(path: Path, part: str) -> None:
    """Put the part between the marks of a page; the rest stays as it is."""
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: the lines {BEGIN.strip()!r} and {END.strip()!r} are missing")
    path.write_text(f"{before}{BEGIN}\n{part}\n{END}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [name for name, _, _ in BENCHMARKS + IF_TIME_IS_LEFT]
    parser.add_argument("--only", nargs="+", choices=names, help="these benchmarks")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for all of them (default: 12)")
    parser.add_argument("--write", action="store_true", help="run nothing")
    arguments = parser.parse_args(argv)
    trouble = {} if arguments.write else run_all(arguments.only or names, arguments.minutes)
    rewrite(PAGE, page(results(RESULTS), trouble))
    print(f"\nwritten to {PAGE}" + "".join(f"\n{name}: {why}" for name, why in trouble.items()))
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())

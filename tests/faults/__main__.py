"""``make faults``: inject every fault, print the table, and exit with 1 if anything did not survive.

An interrupted run resumes with the rows that are left. Every row runs in a process of its own, forked before anything
was computed, so that rows may fork processes that train.
"""

import argparse
import logging
import multiprocessing
import os
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hw_base.runs import cli
from hw_base.runs.folder import git_commit
from tests.faults import rows  # noqa: F401 - declares the rows
from tests.faults.table import ROWS, Outcome, in_markdown, in_words, perform, restore, save

OUTPUT = Path("saved/faults/faults.json")


def _work(number: int, folder: Path, whole: bool, box) -> None:
    """In a process of its own: the trials of one row."""
    logging.getLogger().addHandler(logging.NullHandler())  # else warnings are printed
    box.put((number, perform(ROWS[number], folder, whole)))


def perform_all(numbers: list[int], whole: bool, jobs: int, done, say) -> dict[int, Outcome]:
    """Make the trials of these rows, so many rows at a time; `done` is called after each."""
    context = multiprocessing.get_context("fork")
    waiting, running, outcomes = list(numbers), {}, {}
    scratch = Path(tempfile.mkdtemp(prefix="faults-"))
    box = context.SimpleQueue()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                number = waiting.pop(0)
                folder = scratch / f"row{number}"
                folder.mkdir()
                process = context.Process(target=_work, args=(number, folder, whole, box))
                process.start()
                running[number] = process
            multiprocessing.connection.wait([process.sentinel for process in running.values()], timeout=1.0)
            while not box.empty():
                number, outcome = box.get()
                outcomes[number] = outcome
            for number, process in list(running.items()):
                if process.is_alive():
                    continue
                process.join()
                while not box.empty():
                    got, outcome = box.get()
                    outcomes[got] = outcome
                lost = Outcome(1, 0, [f"the row's process ended with {process.exitcode}"])
                outcomes.setdefault(number, lost)
                del running[number]
                say(number, outcomes[number])
                done(outcomes)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return outcomes


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", metavar="N", help="only these")
    parser.add_argument("--quick", action="store_true", help="the few trials of the default tests")
    jobs = min(2, os.cpu_count() or 1)
    parser.add_argument("--jobs", type=cli.positive(int), default=jobs, help="rows at a time (default: 2)")
    parser.add_argument("-o", "--output", type=Path, default=OUTPUT, help=f"results (default: {OUTPUT})")
    arguments = parser.parse_args(argv)
    numbers = arguments.rows or [n for n, one in sorted(ROWS.items()) if one.quick or not arguments.quick]
    unknown = [number for number in numbers if number not in ROWS]
    if unknown:
        parser.error(f"no row {unknown[0]}; there are {', '.join(map(str, sorted(ROWS)))}")
    # Results of other code do not count.
    about = {"revision": git_commit(), "whole": not arguments.quick}
    before = restore(arguments.output, complete=False, **about)
    before = {number: outcome for number, outcome in before.items() if number in numbers}
    if before:
        print(f"{arguments.output}: {len(before)} rows of an interrupted run are taken over", file=sys.stderr)

    def say(number: int, one: Outcome) -> None:
        figures = f"{one.survived} of {one.trials} survived, {one.seconds:.0f} s"
        print(f"row {number}: {ROWS[number].fault}: {figures}", file=sys.stderr, flush=True)

    def done(outcomes: dict[int, Outcome]) -> None:
        save(arguments.output, {**before, **outcomes}, complete=False, **about)

    left = [number for number in numbers if number not in before]
    outcomes = {**before, **perform_all(left, not arguments.quick, arguments.jobs, done, say)}
    save(arguments.output, outcomes, complete=True, **about)
    table = in_markdown(outcomes)
    arguments.output.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
    print(in_words(outcomes), end="")
    return int(any(one.misses for one in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())

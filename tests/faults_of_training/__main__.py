"""``make faults-of-training``: plant each fault, print what found it, whether it was named rightly, and when."""

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tests.faults_of_training import shipped
from tests.faults_of_training.faults import FAULTS, HEALTHY, Fault
from tests.faults_of_training.play import Said, run

# A table is in order with so many of the faults named rightly, and without a false alarm.
SHARE = 22 / 24


def is_right(fault: Fault, one: Said) -> bool:
    """Whether a finding is one of those that were written beside the fault."""
    return any(name in one.name for name in fault.right)


def play(fault: Fault) -> list[Said]:
    """What was said of a fault."""
    return run(fault.config, fault.patch, fault.change, fault.component)


class Record:
    """Outcomes in a file of JSON lines, so that a table which was interrupted is continued.

    Args:
        path: of the file; None keeps nothing.
    """

    def __init__(self, path: str | None) -> None:
        self.path = Path(path) if path else None
        known = self.path.read_text(encoding="utf-8").splitlines() if self.path and self.path.exists() else []
        self.done: dict[str, dict[str, Any]] = {row["name"]: row for row in map(json.loads, known)}

    def add(self, row: dict[str, Any]) -> dict[str, Any]:
        if self.path and row["name"] not in self.done:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return row


def _fault_rows(record: Record, only: str) -> Iterator[tuple[Fault, list[Said]]]:
    for fault in FAULTS:
        if only in fault.name:
            row = record.done.get(fault.name)
            row = row or record.add({"name": fault.name, "said": [asdict(one) for one in play(fault)]})
            yield fault, [Said(**one) for one in row["said"] if one["by"] != "end"]


def faults(record: Record, only: str, verbose: bool) -> bool:
    """Print part one: the faults and the healthy variations; whether it is in order."""
    n = named = right = total = false = 0
    started = time.monotonic()
    print("| fault | found by | named rightly | steps | also said |\n|---|---|---|---|---|")
    for fault, said in _fault_rows(record, only):
        good = [one for one in said if is_right(fault, one)]
        n, named = n + 1, named + bool(good)
        right, total = right + len(good), total + len(said)
        first = f"{good[0].by}: {good[0].name} | yes | {good[0].step}" if good else "- | **no** | -"
        others = ", ".join(dict.fromkeys(one.name for one in said if not is_right(fault, one))) or "-"
        print(f"| {fault.name} | {first} | {others} |", flush=True)
        if verbose:
            print("\n".join(f"    {one}" for one in said), flush=True)
    for name, config in HEALTHY.items() if not only else ():
        title = f"healthy: {name}"
        row = record.done.get(title) or record.add({"name": title, "said": [one.name for one in run(config)]})
        false += bool(row["said"])
        print(f"| {title} | {', '.join(row['said']) or '-'} | {'no' if row['said'] else 'yes'} | - | - |", flush=True)
    print(f"\n{named} of {n} faults named rightly; {right} of {total} findings right ", end="")
    print(f"(precision {right / max(total, 1):.2f}); ", end="")
    print(f"{false} of {0 if only else len(HEALTHY)} healthy runs with a false alarm; ", end="")
    print(f"{time.monotonic() - started:.0f} s")
    return named >= SHARE * n and not false


def healthy(record: Record, only: str, seconds: float) -> bool:
    """Print part two: the shipped configs; whether none gives an alarm."""
    ran = false = 0
    print("| config | steps | said | how it differs |\n|---|---|---|---|")
    for title in shipped.configs():
        if only in title:
            row = record.done.get(title) or record.add(shipped.play(title, seconds))
            ran, false = ran + (row["steps"] > 0), false + bool(row["said"])
            print(shipped.row(row), flush=True)
    print(f"\n{false} false alarms in {ran} runs")
    return not false


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults_of_training")
    parser.add_argument("--healthy", action="store_true", help="train the shipped configs instead: none may alarm")
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument(
        "--seconds", type=float, default=shipped.SECONDS, help="process time of a config's hundred steps"
    )
    parser.add_argument("--verbose", action="store_true", help="also the sentences")
    parser.add_argument("--record", metavar="FILE", help="keep outcomes there, and do not repeat those that it has")
    arguments = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    record = Record(arguments.record)
    if arguments.healthy:
        return int(not healthy(record, arguments.only, arguments.seconds))
    return int(not faults(record, arguments.only, arguments.verbose))


if __name__ == "__main__":
    sys.exit(main())

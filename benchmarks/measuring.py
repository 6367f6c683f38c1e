"""What benchmarks against peers share: sides timed in turn on one thread, ratios beside goals, a table, a JSON file."""

import argparse
import contextlib
import importlib.util
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One ratio.

    Args:
        work: what is done, with its size.
        peer: what it is compared with.
        kind: precisions of peer and ours, ``fp32 : bf16``, or what else is compared.
        ratio: the peer's cost divided by ours; none where it was not measured.
        goal: the least ratio that is wanted.
        note: the figures behind the ratio, or why there is none.
    """

    work: str
    peer: str
    kind: str
    ratio: float | None
    goal: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; none if there is no goal or no ratio."""
        return None if self.ratio is None or self.goal is None else self.ratio >= self.goal


def compare(
    sides: dict[str, Callable[[], Any]],
    repeats: int = 5,
    clock: Callable[[], float] = time.process_time,
    warm_up: bool = True,
) -> dict[str, float]:
    """Seconds of each side: the least of several repeats, one thread, the sides in turn, each with the same seed.

    Before them one call of each side warms up, unless the caller has done so with less work. The libraries below numpy
    have threads of their own, so these are set to one too.
    """
    best = dict.fromkeys(sides, math.inf)
    with _one_thread():
        for repeat in range(not warm_up, repeats + 1):
            for name, work in sides.items():
                torch.manual_seed(0)
                started = clock()
                work()
                if repeat:
                    best[name] = min(best[name], clock() - started)
    return best


def _one_thread() -> AbstractContextManager[Any]:
    torch.set_num_threads(1)
    if importlib.util.find_spec("threadpoolctl") is None:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[Any] = threadpool_limits(1)
    return limits


def against(work: str, peer: str, kind: str, peer_seconds: float, our_seconds: float, note: str = "") -> Row:
    """The row of two sides, with their milliseconds."""
    shown = f"{1e3 * peer_seconds:.2f} : {1e3 * our_seconds:.2f} ms" + (f"; {note}" if note else "")
    return Row(work, peer, kind, peer_seconds / our_seconds, note=shown)


def missing(*modules: str, install: str = "-r requirements-bench.txt") -> str:
    """Why a peer cannot be measured, or nothing: which of its modules are not installed, and how they are."""
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (pip install {install})" if absent else ""


def has_bf16() -> bool:
    """Whether this processor computes in bfloat16, so that timing it makes sense."""
    return torch.cpu._is_avx512_bf16_supported()


def machine() -> str:
    """What the figures were measured on, in words."""
    vectors = torch.backends.cpu.get_cpu_capability()
    words = [f"one thread of {platform.machine()} with {vectors}{' and bfloat16' if has_bf16() else ''}"]
    words += [torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"]
    return ", ".join([*words, f"torch {torch.__version__}", f"Python {platform.python_version()}"])


def parser(description: str | None, repeats: int = 5) -> argparse.ArgumentParser:
    """A command line with the options that all have."""
    made = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    made.add_argument("--repeats", type=int, default=repeats, help="timed runs of each side")
    made.add_argument("-o", "--output", type=Path, help="JSON file; benchmarks/results/NAME.json if not given")
    return made


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown; a goal that is not reached is marked."""
    lines = ["| work | peer | peer : ours | ratio | goal | |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "-" if row.ratio is None else f"{row.ratio:.2f}x"
        goal = "" if row.goal is None else f"{row.goal:g}x" + (" **not met**" if row.met is False else "")
        lines.append(f"| {row.work} | {row.peer} | {row.kind} | {ratio} | {goal} | {row.note} |")
    return "\n".join(lines)


def write(rows: Sequence[Row], name: str, output: Path | None = None) -> Path:
    """Print the table and write rows, machine, date and command to a JSON file.

    Args:
        rows: in the order of the table.
        name: of the benchmark; ``python -m benchmarks.NAME`` runs it.
        output: another file than ``benchmarks/results/NAME.json``.

    Returns:
        The file.
    """
    path = RESULTS / f"{name}.json" if output is None else output
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "name": name,
        "command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]]),
        "date": date.today().isoformat(),
        "machine": machine(),
        "rows": [{**asdict(row), "met": row.met} for row in rows],
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"{machine()}\n\n{table(rows)}\n\nwritten to {path}")
    return path

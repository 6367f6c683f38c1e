"""Both tasks on real speech: ``python -m demo.real --data DIR``, or ``make real DATA=DIR``.

A small DeepSpeech2 and a small FastSpeech2 learn side by side, one core each, from a part of LibriSpeech; then both are
tested, and one page reports on them. The recognizer begins with the embedded corpus, which teaches it letters in
minutes. How long each trains is measured first, so that the rates fall to their end within the time.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from hw_base.errors import REQUEUE_EXIT_CODE, ConfigError
from hw_base.runs import cli
from hw_base.runs.folder import best_checkpoint
from hw_base.runs.parser import Parser

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("train-clean-100", "dev-clean", "test-other")
CONFIGS = {"asr": "configs/librispeech_mini/ds2_from_demo.json", "tts": "configs/librispeech_mini/fastspeech2.json"}
FIRST = "configs/ds2.json"
# The time of so many steps is estimated; the training gets as many as fit.
STEPS = 1000
# Minutes of the total that are left for the tests and the report.
REST = 5.0
# Share of the time that is left which a training shall take: a measurement of a few steps is not exact.
SAFE = 0.92
# Seconds that a training has at least.
LEAST = 30.0


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code; 0 too where there is no data and nothing is done."""
    parser = Parser(
        "python -m demo.real",
        "Train and test a small recognizer and a small synthesizer on real speech.",
        ["--data ../shared/data --minutes 45"],
    )
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help=f"LibriSpeech: holds {', '.join(PARTS)}"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="of everything (default: saved/real/<time>)")
    parser.add_argument("--minutes", type=cli.positive(float), default=45.0, help="in all, on two cores (default: 45)")
    parser.add_argument(
        "--recognizer", type=Path, metavar="CKPT", help="of `make demo`; one is trained where none is given"
    )
    for flag, whose in {"first": "first training's", "asr": "recognizer's", "tts": "synthesizer's"}.items():
        help_text = f"changes the {whose} config"
        parser.add_argument(f"--{flag}-set", nargs="+", default=[], metavar="KEY=VALUE", help=help_text)
    arguments = parser.parse_args(argv)

    def work() -> int:
        root, missing = found(arguments.data)
        if missing:
            print(
                f"skipped: {root} has no {', '.join(missing)}; name a folder of LibriSpeech with DATA=DIR (or --data)"
            )
            return 0
        folder = arguments.run_dir or Path("saved") / "real" / time.strftime("%Y%m%d-%H%M%S")
        changes = {"first": arguments.first_set, "asr": arguments.asr_set, "tts": arguments.tts_set}
        recognizer = arguments.recognizer and arguments.recognizer.resolve()
        run(root.resolve(), folder.resolve(), arguments.minutes, changes, recognizer)
        return 0

    return cli.run(work)


def found(data: Path) -> tuple[Path, list[str]]:
    """The folder of the parts, which may lie in one called LibriSpeech, and the parts that it lacks."""
    root = data / "LibriSpeech" if (data / "LibriSpeech").is_dir() else data
    return root, [part for part in PARTS if not (root / part).is_dir()]


def run(
    root: Path, folder: Path, minutes: float, changes: dict[str, list[str]], recognizer: Path | None = None
) -> None:
    """Train, test, report, and print the figures.

    Args:
        root: of the data.
        folder: of the runs ``first``, ``asr`` and ``tts`` and of ``report.html``.
        minutes: in all.
        changes: to each run's config, as for ``--set``.
        recognizer: of the embedded corpus; None trains it.

    Raises:
        ConfigError: a program failed; its own message stands above.
    """
    end = time.monotonic() + 60 * max(minutes - REST, minutes / 2)
    place = f"data.*.datasets.*.args.root={root}"

    def learn(programs: Programs, task: str, more: Sequence[str] = ()) -> None:
        sets = ["--set", place, *more]
        measured = programs.run(
            f"{task}: measures",
            [
                "-m",
                "hw_base.profile",
                "-c",
                CONFIGS[task],
                "-d",
                "cpu",
                "--json",
                *sets,
                *changes[task],
                f"trainer.max_steps={STEPS}",
            ],
            said=True,
        )
        left = max(end - time.monotonic(), LEAST)
        fits = max(1, int(STEPS * SAFE * left / json.loads(measured)["training"]))
        sets += [f"trainer.max_steps={fits}", f"trainer.max_hours={left / 3600:.4f}", *changes[task]]
        command = ["train.py", "-c", CONFIGS[task], "-d", "cpu", "--run-dir", str(folder / task), *sets]
        programs.run(task, command, allowed=(0, REQUEUE_EXIT_CODE))

    def recognition(programs: Programs) -> None:
        first = recognizer
        if first is None:
            sets = ["--set", *changes["first"]] if changes["first"] else []
            programs.run("first", ["train.py", "-c", FIRST, "-d", "cpu", "--run-dir", str(folder / "first"), *sets])
            first = best_checkpoint(folder / "first")
        learn(programs, "asr", [f"init_from={first}"])

    def test(task: str) -> Callable[[Programs], Any]:
        command = ["test.py", "-r", str(best_checkpoint(folder / task)), "-d", "cpu"]
        command += ["-o", str(folder / task / "output.json"), "--set", place]
        return lambda programs: programs.run(f"{task}: test", command)

    side_by_side([recognition, lambda programs: learn(programs, "tts")])
    side_by_side([test(task) for task in CONFIGS])
    report = ["-m", "hw_base.report", *(str(folder / task) for task in CONFIGS), "-o", str(folder / "report.html")]
    side_by_side([lambda programs: programs.run("report", report)])
    for line in figures(folder):
        print(line)


class Programs:
    """Runs Python programs of this repository, one thread each; after `end` they are stopped and none begins."""

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []
        self._ended = False

    def run(self, name: str, command: list[str], allowed: Sequence[int] = (0,), said: bool = False) -> str:
        """Run one to its end; with `said`, what it printed.

        Args:
            name: in messages.
            command: arguments of the interpreter.
            allowed: exit codes.
            said: catch the standard output instead of showing it.

        Raises:
            ConfigError: its exit code is another one.
        """
        if self._ended:
            raise ConfigError(f"{name}: not started")
        print(f"{name}: python {' '.join(command)}", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE if said else None
        )
        self._running.append(process)
        output = process.communicate()[0]
        if process.returncode not in allowed:
            raise ConfigError(f"{name}: ended with exit code {process.returncode}; what it said stands above")
        return output or ""

    def end(self) -> None:
        """Stop what runs, and wait for it."""
        self._ended = True
        for process in self._running:
            if process.poll() is None:
                process.terminate()
        for process in self._running:
            process.wait()


def side_by_side(works: Sequence[Callable[[Programs], Any]]) -> None:
    """Do all of them at once; where one fails or SIGTERM comes, the programs of all are ended.

    Raises:
        ConfigError: the first that failed.
    """
    programs = Programs()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ThreadPoolExecutor(len(works)) as pool:
        try:
            done, _ = wait([pool.submit(work, programs) for work in works], return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        finally:
            programs.end()


def figures(folder: Path) -> list[str]:
    """A line for each test split of both runs, and where everything lies."""
    lines = []
    for task in CONFIGS:
        (entry,) = json.loads((folder / task / "metrics.json").read_text(encoding="utf-8")).values()
        for split, values in entry["splits"].items():
            shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if isinstance(value, float))
            lines.append(f"{task}, {split}, step {entry['step']}: {shown}")
    lines.append(f"speech: {folder / 'tts' / 'output_wavs'}; report: {folder / 'report.html'}")
    return lines


if __name__ == "__main__":
    sys.exit(main())

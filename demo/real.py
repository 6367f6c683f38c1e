"""Both tasks on real speech: ``python -m demo.real --data DIR``, or ``make real DATA=DIR``.

A small DeepSpeech2 and a small FastSpeech2 learn side by side, one core each, from a part of LibriSpeech; then both are
tested, and one page reports on them.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_base.errors import REQUEUE_EXIT_CODE, ConfigError
from hw_base.runs import cli
from hw_base.runs.folder import best_checkpoint
from hw_base.runs.parser import Parser

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("train-clean-100", "dev-clean", "test-other")
CONFIGS = {"asr": "configs/librispeech_mini/ds2.json", "tts": "configs/librispeech_mini/fastspeech2.json"}
# The recognizer's own recipe is longer than the time allows.
SHORTER = {"asr": ["trainer.epochs=7"], "tts": []}
# Minutes of the total that are left for the start, the tests and the report.
REST = 8.0


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
    parser.add_argument("--asr-set", nargs="+", default=[], metavar="KEY=VALUE", help="changes the recognizer's config")
    parser.add_argument(
        "--tts-set", nargs="+", default=[], metavar="KEY=VALUE", help="changes the synthesizer's config"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        root, missing = found(arguments.data)
        if missing:
            print(
                f"skipped: {root} has no {', '.join(missing)}; name a folder of LibriSpeech with DATA=DIR (or --data)"
            )
            return 0
        folder = arguments.run_dir or Path("saved") / "real" / time.strftime("%Y%m%d-%H%M%S")
        changes = {"asr": arguments.asr_set, "tts": arguments.tts_set}
        run(root.resolve(), folder.resolve(), arguments.minutes, changes)
        return 0

    return cli.run(work)


def found(data: Path) -> tuple[Path, list[str]]:
    """The folder of the parts, which may lie in one called LibriSpeech, and the parts that it lacks."""
    root = data / "LibriSpeech" if (data / "LibriSpeech").is_dir() else data
    return root, [part for part in PARTS if not (root / part).is_dir()]


def run(root: Path, folder: Path, minutes: float, changes: dict[str, list[str]]) -> None:
    """Train, test, report, and print the figures.

    Args:
        root: of the data.
        folder: of the runs ``asr`` and ``tts`` and of ``report.html``.
        minutes: in all.
        changes: to each config, as for ``--set``.

    Raises:
        ConfigError: a program failed; its own message stands above.
    """
    hours = max(minutes - REST, minutes / 2) / 60
    sets = ["data.*.datasets.*.args.root=" + str(root), f"trainer.max_hours={hours:.4f}"]
    training, testing = {}, {}
    for task, config in CONFIGS.items():
        training[task] = ["train.py", "-c", config, "-d", "cpu", "--run-dir", str(folder / task), "--set", *sets]
        training[task] += [*SHORTER[task], *changes[task]]
    together(training, allowed=(0, REQUEUE_EXIT_CODE))
    for task in CONFIGS:
        testing[task] = ["test.py", "-r", str(best_checkpoint(folder / task)), "-d", "cpu"]
        testing[task] += ["-o", str(folder / task / "output.json"), "--set", sets[0]]
    together(testing)
    report = ["-m", "hw_base.report", *(str(folder / task) for task in CONFIGS), "-o", str(folder / "report.html")]
    together({"report": report})
    for line in figures(folder):
        print(line)


def together(programs: dict[str, list[str]], allowed: Sequence[int] = (0,)) -> None:
    """Run programs side by side, one thread each; where one fails, the others are ended.

    Raises:
        ConfigError: the exit code of one is not allowed.
    """
    running: dict[str, Any] = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name, command in programs.items():
        print(f"{name}: python {' '.join(command)}", flush=True)
        running[name] = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment)
    try:
        waiting = dict(running)
        while waiting:
            time.sleep(0.2)
            ended = {name: code for name, process in waiting.items() if (code := process.poll()) is not None}
            for name, code in ended.items():
                if code not in allowed:
                    raise ConfigError(f"{name}: ended with exit code {code}; what it said stands above")
                del waiting[name]
    finally:
        for process in running.values():
            if process.poll() is None:
                process.terminate()
                process.wait()


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

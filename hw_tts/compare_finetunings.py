# PYTHON_ARGCOMPLETE_OK
"""Compare ways to learn new voices: ``python -m hw_tts.compare_finetunings -c configs/vits2_finetune.json -o DIR``."""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from hw_base import checkpoint, distributed, storage, trained
from hw_base.config import read as config_files
from hw_base.config.resolve import read, resolve
from hw_base.config.schema import Config
from hw_base.errors import ConfigError, HwError
from hw_base.registry import suggest
from hw_base.runs import cli
from hw_base.runs import train as training
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser
from hw_base.writers import plots
from hw_base.writers.media import png_bytes

log = logging.getLogger(__name__)

# What each strategy changes in the config that all share; the parameter names are VITS2's.
STRATEGIES: dict[str, list[str]] = {
    "random": ["new_speakers=RandomSpeakers"],
    "mean": ["new_speakers=MeanSpeaker"],
    "nearest": ["new_speakers=NearestSpeaker"],
    "mixed": ["new_speakers=MixedSpeakers"],
    "estimated": ["new_speakers=EstimatedSpeakers"],
    "table_only": ["new_speakers=NearestSpeaker", 'optimizers.generator.train=["emb_g.*"]'],
    "frozen_text_and_flow": ["new_speakers=NearestSpeaker", 'optimizers.generator.freeze=["enc_p.*", "flow.*"]'],
    "table_first": [
        "new_speakers=NearestSpeaker",
        'optimizers.generator.train=["emb_g.*"]',
        'optimizers.generator.thaw={"enc_p.*": 2, "enc_q.*": 2, "flow.*": 2, "dp.*": 2, "dec.*": 2}',
    ],
    "scratch": ["init_from=null", "new_speakers=null", "init_optimizers=false"],
}
DEFAULT = ("mean", "nearest", "estimated", "table_only", "scratch")

Curves = dict[str, list[tuple[float, float]]]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_tts.compare_finetunings",
        "Train one config by several strategies under the same budget, and compare what was measured.",
        ["-c configs/vits2_finetune.json --set init_from=runs/a/model_best.pth -o compared"],
        epilog="strategies: " + "; ".join(f"{name}: {' '.join(sets) or '-'}" for name, sets in STRATEGIES.items()),
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="config of a fine-tuning, with init_from")
    parser.add_argument("-s", "--strategies", metavar="A,B", default=",".join(DEFAULT), help="strategies to compare")
    parser.add_argument("--more", metavar="FILE", help='JSON of further strategies: {"name": ["key=value", ...]}')
    cli.add_set(parser, "change a key for all of them")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="one run folder for each, and the table")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _compare(arguments), arguments.imports)


def _compare(arguments: argparse.Namespace) -> int:
    raw = read(arguments.config)
    known = STRATEGIES | (_more(arguments.more) if arguments.more else {})
    names = [name.strip() for name in arguments.strategies.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise ConfigError(f"--strategies: none is named {name!r}. {suggest(name, known)}")
    # The stage before the first update belongs to the comparison.
    configs = {name: resolve(raw, ["trainer.eval_first=true", *arguments.set, *known[name]]) for name in names}
    for name, config in configs.items():
        if not config.metrics or not config.evaluation_splits():
            raise ConfigError(f"strategy {name}: nothing to compare by: give metrics, and a split to evaluate")
    device = distributed.start(arguments.device)
    folder = Path(arguments.output)
    _check(configs, folder, device)
    for name, config in configs.items():
        _train(name, config, folder / name, device)
    curves = {name: read_curves(folder / name / "metrics.jsonl") for name in names}
    _report(folder, configs, curves)
    return 0


def _more(path: str) -> dict[str, list[str]]:
    found = config_files.read(path)
    for name, sets in found.items():
        if not isinstance(sets, list) or not all(isinstance(item, str) and "=" in item for item in sets):
            raise ConfigError(f'--more {path}: {name}: expected a list of "key=value", found {sets!r}')
    return found


def _check(configs: Mapping[str, Config], folder: Path, device: torch.device) -> None:
    """Build every strategy that has not started and take one update, before the first of them is trained for hours.

    Raises:
        HwError: what the first one that cannot be trained would fail with, under its name.
    """
    for name, config in configs.items():
        if (folder / name).is_dir() and checkpoint.newest_good(folder / name) is not None:
            continue
        log.info("checking strategy %s", name)
        try:
            training.dry_run(Experiment(config, device))
        except HwError as error:
            error.args = (f"strategy {name}: {error}",)
            raise


def _train(name: str, config: Config, path: Path, device: torch.device) -> None:
    """Train, or resume an interrupted comparison; a finished run is left as it is."""
    source = checkpoint.newest_good(path) if path.is_dir() else None
    state = trained.read(source) if source is not None else None
    log.info("strategy %s%s", name, f", from step {state['step']}" if state else "")
    training.run(Experiment(config, device, state), path, source)


def read_curves(path: Path) -> Curves:
    """The evaluations of a run: ``val/mcd`` -> (epoch, value) in order; the epoch of step 0 is 0."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    # An evaluation need not fall on a step that is logged, but all epochs have the same number of steps.
    logged = [row["epoch"] / row["step"] for row in rows if row.get("epoch") and row.get("step")]
    epochs_per_step = logged[0] if logged else 0.0
    curves: Curves = {}
    for row in rows:
        if row.get("split") != "train" and "step" in row and "split" in row:
            for key, value in row.items():
                if key not in ("step", "split") and isinstance(value, int | float):
                    point = (row["step"] * epochs_per_step, float(value))
                    curves.setdefault(f"{row['split']}/{key}", []).append(point)
    return curves


def _report(folder: Path, configs: Mapping[str, Config], curves: Mapping[str, Curves]) -> None:
    """Write the table as text and as JSON, and the picture: a row a metric, of all speakers, then of each."""
    first = next(iter(configs.values()))
    wanted = [f"{split}/{metric}" for split in first.evaluation_splits() for metric in first.metrics]
    found = {key for one in curves.values() for key in one}
    metrics = [key for key in wanted if key in found]
    of_speakers = {metric: sorted(key for key in found if key.rpartition("/")[0] == metric) for metric in metrics}
    table = _table([f"{m}, {when}" for m in metrics for when in ("first", "last")], curves, metrics, (0, -1))
    speakers = [key for keys in of_speakers.values() for key in keys]
    if speakers:
        table += "\n" + _table(speakers, curves, speakers, (-1,))
    shown = [key for metric in metrics for key in (metric, *of_speakers[metric])]
    panels = {key: {name: one[key] for name, one in curves.items() if key in one} for key in shown}
    columns = 1 + max(len(keys) for keys in of_speakers.values()) if speakers else 3
    try:
        (folder / "table.md").write_text(table, encoding="utf-8")
        (folder / "metrics.png").write_bytes(png_bytes(plots.curves_image(panels, "epoch", columns=columns)))
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written: {error.strerror}") from None
    storage.write_json(folder / "table.json", {name: dict(one) for name, one in curves.items()})
    print(table)
    print(f"{folder / 'table.md'}, table.json, metrics.png; audio of every stage in {folder}/*/media")


def _table(header: Sequence[str], curves: Mapping[str, Curves], keys: Sequence[str], places: Sequence[int]) -> str:
    """A line a strategy, with the values of its first (0) or last (-1) evaluation; empty where it could not measure."""
    lines = [f"| strategy | {' | '.join(header)} |", "|---" * (1 + len(header)) + "|"]
    for name, one in curves.items():
        epochs = sorted({epoch for points in one.values() for epoch, _ in points})
        values = [dict(one.get(key, [])).get(epochs[place]) if epochs else None for key in keys for place in places]
        cells = ["" if value is None else f"{value:.4f}" for value in values]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())

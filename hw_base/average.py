# PYTHON_ARGCOMPLETE_OK
"""``python -m hw_base.average``: one model whose weights are the mean of several checkpoints'.

Checkpoints of the end of one training lie around a good solution; their mean is usually better than any of them, and
costs nothing at recognition (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better
Generalization"; the mean of the best ten is customary since Vaswani et al. 2017, section 6.1).
"""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hw_base import checkpoint, task_packages
from hw_base.config.resolve import as_dict, read, resolve
from hw_base.errors import CheckpointError, ConfigError
from hw_base.files.sources import local
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_base.writers.jsonl import read_rows

log = logging.getLogger(__name__)

# Sections of the config that say what the weights mean.
_SAME = ("task", "model", "features")


def average(paths: Sequence[Path]) -> dict[str, Any]:
    """The newest of the checkpoints with the mean of all weights.

    Floating-point tensors are averaged in float64, running statistics among them; counters are the newest's.

    Args:
        paths: checkpoints of one model.

    Returns:
        dict: a checkpoint like the others; ``averaged`` lists the steps in it.

    Raises:
        CheckpointError: one cannot be read, is of another model or vocabulary, or has weights that are not finite.
    """
    if not paths:
        raise CheckpointError("there are no checkpoints to average")
    newest: dict[str, Any] = {}
    sums: dict[str, torch.Tensor] = {}
    steps: list[int] = []
    for path in paths:
        state = checkpoint.load(path, (*checkpoint.MODEL_PARTS, "step"))
        weights = state["model"]
        if newest:
            _refuse_another_model(newest, state, path)
        for name, tensor in weights.items():
            if not tensor.is_floating_point():
                continue
            if not bool(torch.isfinite(tensor).all()):
                raise CheckpointError(f"{path}: {name} is not finite; leave this checkpoint out")
            sums[name] = sums[name] + tensor.double() if name in sums else tensor.double()
        steps.append(state["step"])
        if not newest or state["step"] > newest["step"]:
            newest = state
    means = {name: (total / len(paths)).to(newest["model"][name].dtype) for name, total in sums.items()}
    newest.pop("training_weights", None)  # of one of them only
    return {**newest, "model": {**newest["model"], **means}, "averaged": sorted(steps)}


def best_of(run_dir: Path, n: int, by: str | None = None) -> list[Path]:
    """The checkpoints of a run with the best values, best first.

    Args:
        run_dir: with checkpoints and ``metrics.jsonl``.
        n: how many; fewer if there are fewer, which is logged.
        by: ``min val/wer`` or ``max val/stoi``; by default what the run's config monitors.

    Raises:
        CheckpointError: no checkpoint has such a value.
        ConfigError: `by` is not of this form, or is not given and the run monitors nothing.
    """
    candidates = _by_step(run_dir)
    if by is None:
        by = checkpoint.load(next(iter(candidates.values())))["config"]["trainer"].get("monitor")
        if by is None:
            raise ConfigError(f'{run_dir}: its config has no trainer.monitor; say --by, for example "min val/wer"')
    mode, _, key = by.partition(" ")
    split, _, name = key.partition("/")
    if mode not in ("min", "max") or not name:
        raise ConfigError(f'--by: expected "min SPLIT/NAME" or "max SPLIT/NAME", found {by!r}')
    record = run_dir / "metrics.jsonl"
    rows = read_rows(record) if record.exists() else []
    # A value that is not finite is a string there.
    values = {r["step"]: r[name] for r in rows if r.get("split") == split and isinstance(r.get(name), int | float)}
    sign = -1.0 if mode == "max" else 1.0
    ranked = sorted((sign * values[step], step) for step in candidates if step in values)
    if not ranked:
        raise CheckpointError(f"{run_dir}: no checkpoint has a value of {key!r} in metrics.jsonl")
    if len(ranked) < n:
        log.warning("%s: only %d of %d checkpoints are there; trainer.keep_best keeps more", run_dir, len(ranked), n)
    for value, step in ranked[:n]:
        log.info("  step %d: %s %.4f", step, key, sign * value)
    return [candidates[step] for _, step in ranked[:n]]


def _by_step(run_dir: Path) -> dict[int, Path]:
    found = {checkpoint.step_of(path): path for path in checkpoint.numbered(run_dir)}
    best = run_dir / checkpoint.BEST
    if best.exists():
        found.setdefault(checkpoint.load(best)["step"], best)
    if not found:
        raise CheckpointError(f"{run_dir}: this folder holds no checkpoints")
    return found


def _refuse_another_model(one: dict[str, Any], other: dict[str, Any], path: Path) -> None:
    for section in _SAME:
        if one["config"].get(section) != other["config"].get(section):
            raise CheckpointError(
                f"{path}: its config has another {section}; only checkpoints of one model can be averaged"
            )
    if not _equal(one["text_encoder"], other["text_encoder"]):
        raise CheckpointError(f"{path}: has another vocabulary than the checkpoint before")
    shapes = [{name: tensor.shape for name, tensor in state["model"].items()} for state in (one, other)]
    if shapes[0] != shapes[1]:
        raise CheckpointError(f"{path}: made for another model than the checkpoint before")


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return bool(one == other)


def _chosen(sources: Sequence[str], best: int | None, by: str | None) -> list[Path]:
    paths = [local(source) for source in sources]
    if best is not None:
        if len(paths) != 1 or not paths[0].is_dir():
            raise ConfigError("--best: goes with one run folder, whose metrics.jsonl says which are the best")
        return best_of(paths[0], best, by)
    if by is not None:
        raise ConfigError("--by: goes with --best N")
    if len(paths) == 1 and paths[0].is_dir():
        return checkpoint.numbered(paths[0])
    return paths


def _laid_over(config: dict[str, Any], path: str) -> dict[str, Any]:
    """The config with a file's sections, which must not change what the weights mean."""
    given = read(path)
    task_packages.import_task(config.get("task"))
    for section in (*_SAME, "text_encoder"):
        if section in given:
            raise ConfigError(f"{path}: {section} says what the weights mean; leave it out")
    return as_dict(resolve({**config, **given}))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_base.average", "Average the weights of checkpoints.", ["runs/a --best 5 -o averaged.pth"]
    )
    parser.add_argument("sources", nargs="+", metavar="RUN_DIR|CHECKPOINT", help="a run folder, or checkpoints")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="the averaged checkpoint")
    parser.add_argument("--best", type=cli.positive(int), metavar="N", help="the N best of the run folder")
    parser.add_argument("--by", metavar="RULE", help='"min val/wer"; by default what the run monitors')
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="sections to lay over the config of the checkpoint, such as decoders",
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        paths = _chosen(arguments.sources, arguments.best, arguments.by)
        output = Path(arguments.output)
        if output.resolve() in {path.resolve() for path in paths}:
            raise ConfigError(f"--output {output}: is one of the checkpoints to average")
        state = average(paths)
        if arguments.config is not None:
            state["config"] = _laid_over(state["config"], arguments.config)
        checkpoint.save(output, state)
        steps = ", ".join(map(str, state["averaged"]))
        print(f"{output}: the mean of {len(paths)} checkpoints, steps {steps}")
        return 0

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(main())

# PYTHON_ARGCOMPLETE_OK
"""A folder that others can use: ``python -m hw_base.publish RUN -o DIR``; then ``-r DIR`` wherever a checkpoint is."""

import json
import logging
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from hw_base import checkpoint, trained
from hw_base.errors import CheckpointError, ConfigError, DataError
from hw_base.files import published
from hw_base.reports.record import Run, read_runs
from hw_base.runs import cli
from hw_base.runs import folder as run_folder
from hw_base.runs.parser import Parser
from hw_base.storage import write_json, write_text
from hw_base.writers.base import without_home

log = logging.getLogger(__name__)

# What the Hugging Face Hub calls the tasks.
_PIPELINES = {"asr": "automatic-speech-recognition", "tts": "text-to-speech"}
_SAID = "synthesized"  # sounds of this name are the model's own


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_base.publish",
        "Write a model to give away: weights as safetensors, config, and a card that says what it is.",
        ["runs/a -o published --license mit --language en"],
    )
    parser.add_argument("run", metavar="RUN", help="run folder, whose best checkpoint is taken; or a checkpoint")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to make")
    parser.add_argument("--license", metavar="NAME", help="of the weights, as the Hugging Face Hub writes it: mit")
    parser.add_argument("--language", metavar="CODE", nargs="+", default=[], help="spoken ones: en ru")
    parser.add_argument("--samples", type=int, default=4, metavar="N", help="sounds of the run to copy (default: 4)")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        path = run_folder.best_checkpoint(arguments.run)
        header = {"license": arguments.license, "language": arguments.language}
        publish(path, arguments.output, header, arguments.samples)
        print(f"{arguments.output}: use it with -r {arguments.output}")
        return 0

    return cli.run(work, arguments.imports)


def publish(path: Path, folder: Path, header: Mapping[str, Any], n_samples: int = 4) -> None:
    """Write the folder.

    Args:
        path: of the checkpoint; what lies beside it (``metrics.jsonl``, ``media/``) describes its run.
        folder: to make; must not exist, or be empty.
        header: of the card: ``license``, ``language``.
        n_samples: sounds to copy.

    Raises:
        CheckpointError: the checkpoint cannot be used, or what was written is not the same when it is read.
        ConfigError: the folder holds something, or cannot be written to.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"-o {folder}: exists and is not empty; choose another folder")
    state = trained.read(path)
    trained.load(path)  # which says what is wrong with it before anything is written
    state = {**state, "config": without_home(state["config"])}
    file = folder / published.NAME
    published.save(file, state)
    _verify(state, file)
    write_json(folder / "config.json", state["config"], option="-o")
    run = _run(path.parent)
    try:
        sounds = [] if run is None else list(_samples(run, folder, state.get("step"), n_samples))
        write_text(folder / "README.md", card(state, path, run, sounds, header))
    except OSError as error:
        raise ConfigError(f"-o {folder}: cannot be written to: {error.strerror}") from None


def _verify(state: Mapping[str, Any], file: Path) -> None:
    """Read the file again: every tensor to the bit, everything else by its value."""
    again = checkpoint.load(file, needs=checkpoint.MODEL_PARTS)
    for part in (*published.PARTS, "model"):
        if not _same(state.get(part), again.get(part)):
            raise CheckpointError(f"{file}: its {part!r} is not the same when it is read again; do not use it")


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        same_kind = isinstance(b, Tensor) and a.dtype == b.dtype and a.shape == b.shape
        return same_kind and torch.equal(*(tensor.cpu().flatten().view(torch.uint8) for tensor in (a, b)))
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def _run(folder: Path) -> Run | None:
    try:
        return read_runs([folder])[0]
    except DataError:
        log.info("%s holds no record of a run: the card says nothing of figures and commands", folder)
        return None


def _samples(run: Run, folder: Path, step: Any, n: int) -> Iterator[tuple[str, str]]:
    """Copy sounds that the model made at the checkpoint's step, else the last ones: what each is, and its file."""
    own = [one for one in run.media if one.what.startswith(_SAID) and one.path.suffix in (".wav", ".flac")]
    steps = {one.step for one in own}
    chosen = step if step in steps else max(steps, default=None)
    for one in [one for one in own if one.step == chosen][: max(n, 0)]:
        # Two splits may have a sound of the same name.
        target = folder / "samples" / f"{one.path.parent.name}-{one.path.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(one.path, target)
        yield f"{one.split} {one.example}".strip(), f"samples/{target.name}"


def card(
    state: Mapping[str, Any],
    path: Path,
    run: Run | None,
    sounds: Sequence[tuple[str, str]],
    header: Mapping[str, Any],
) -> str:
    """The model card in Markdown: a header in YAML that the Hugging Face Hub reads, and text for people.

    Args:
        state: of the checkpoint.
        path: its file, by whose name ``test.py`` noted its figures.
        run: that wrote it; None leaves out figures and commands.
        sounds: what each is, and its file in the folder.
        header: ``license``, ``language``; empty ones are left out.
    """
    config = state["config"]
    figures = _figures(run, state.get("step"), path.name)
    trained_values = sum(tensor.numel() for tensor in state["model"].values() if tensor.is_floating_point())
    rows = {
        "task": config["task"],
        "model": f"`{config['model']['type']}`, {trained_values:,} weights",
        "input": f"`{config['features']['type']}`, {json.dumps(config['features'].get('args', {}))}",
        "text": f"`{config['text_encoder']['type']}`",
        "steps": state.get("step", "unknown"),
    }
    lines = [_front(config, figures, header), f"# {config['name']}", "", *_about(config), "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    lines += ["", "## Figures", "", *_table(figures), "", "## Data", "", *_data(config)]
    if sounds:
        lines += ["", "## Samples", "", *(f"* {what}: [{file}]({file})" for what, file in sounds)]
    lines += ["", "## Use", "", *_use(config["task"], state.get("packages") or ())]
    lines += ["", "## How it was made", "", *_made(run)]
    return "\n".join(lines) + "\n"


def _front(config: Mapping[str, Any], figures: Sequence[tuple[str, str, float]], header: Mapping[str, Any]) -> str:
    name, pipeline = config["name"], _PIPELINES.get(config["task"])
    results = [
        {
            "task": {"type": pipeline or config["task"]},
            "dataset": {"name": split, "type": split},
            "metrics": [{"type": metric, "value": round(value, 6)} for s, metric, value in figures if s == split],
        }
        for split in dict.fromkeys(split for split, _, _ in figures)
    ]
    front: dict[str, Any] = {key: value for key, value in header.items() if value}
    front |= {"pipeline_tag": pipeline} if pipeline else {}
    front |= {"tags": ["speech", config["model"]["type"]], "model-index": [{"name": name, "results": results}]}
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n"


def _figures(run: Run | None, step: Any, name: str) -> list[tuple[str, str, float]]:
    """Split, metric and value: of the evaluation at the checkpoint's step, and of ``test.py`` on the checkpoint."""
    if run is None:
        return []
    found: dict[tuple[str, str], float] = {}
    for metric, splits in run.curves.items():
        for split, (steps, values) in splits.items():
            if split != "train" and step in steps:
                found[split, metric] = dict(zip(steps, values, strict=True))[step]  # the last of this step
    for output in run.outputs:
        splits_of = output.about.get("splits")
        if Path(str(output.about.get("checkpoint", ""))).name == name and isinstance(splits_of, dict):
            found |= {
                (s, m): float(v) for s, of in splits_of.items() for m, v in of.items() if isinstance(v, int | float)
            }
    return [(split, metric, value) for (split, metric), value in found.items()]


def _table(figures: Sequence[tuple[str, str, float]]) -> list[str]:
    if not figures:
        return ["None are recorded beside the checkpoint."]
    return ["| split | figure | value |", "|---|---|---|", *(f"| {s} | {m} | {v:.4f} |" for s, m, v in figures)]


def _about(config: Mapping[str, Any]) -> list[str]:
    about = config.get("about") or ""
    lines = [about] if isinstance(about, str) else list(about)
    return [*lines, ""] if any(lines) else []


def _data(config: Mapping[str, Any]) -> Iterator[str]:
    for split, section in config["data"].items():
        for one in section["datasets"]:
            given = {key: value for key, value in one.get("args", {}).items() if value is not None}
            yield f"* {split}: `{one['type']}` {json.dumps(given, ensure_ascii=False)}"


def _use(task: str, packages: Sequence[str]) -> list[str]:
    own = "".join(f" --import {name}" for name in packages)
    lines = [f"    python test.py -r DIR{own} -o output.json"]
    if task == "asr":
        lines += [f"    python -m hw_asr.recognize -r DIR{own} speech.wav"]
    elif task == "tts":
        lines += [f'    python -m hw_tts.synthesize -r DIR{own} --text "Ten keys." -o speech']
    return ["DIR is this folder, or `hf://OWNER/REPO/model.safetensors`:", "", *lines]


def _made(run: Run | None) -> Iterator[str]:
    if run is None:
        yield "`config.json` is the complete config: `python train.py -c config.json`."
        return
    command = run.machine.get("command")
    yield "`config.json` is the complete config; the run was started by"
    yield ""
    yield (
        f"    python {shlex.join(map(str, command))}"
        if isinstance(command, list)
        else "    python train.py -c config.json"
    )
    yield ""
    known = [f"{key} {run.machine[key]}" for key in ("gpu", "cpu", "python", "torch") if run.machine.get(key)]
    if known:
        yield f"on {', '.join(known)}{f', with the code of commit {run.commit}' if run.commit else ''}."


if __name__ == "__main__":
    sys.exit(main())

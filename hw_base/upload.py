# PYTHON_ARGCOMPLETE_OK
"""Send any run to a tracker, whole, from its record: ``python -m hw_base.upload RUN --to comet|wandb|tensorboard``."""

import argparse
import logging
import sys
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from hw_base.errors import ConfigError, DataError, HwError, MissingPackageError
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_base.texts.files import from_json
from hw_base.writers import CometWriter, TensorBoardWriter, WandbWriter, Writer, read_rows

log = logging.getLogger(__name__)

TRACKERS = ("comet", "wandb", "tensorboard")


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_base.upload",
        "Send a run to a tracker from its record.",
        ["runs/a --to wandb --project speech", "runs/a --to tensorboard -o upload"],
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder: killed, finished, or never connected")
    parser.add_argument("--to", choices=TRACKERS, required=True, help="which tracker")
    parser.add_argument("--offline", action="store_true", help="only write what can be sent later")
    parser.add_argument("--project", default="speech", help="on the tracker's site (default: speech)")
    parser.add_argument("--workspace", help="user or team there (default: your own)")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="where offline files go (default: RUN/upload)")
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _upload(arguments))


def _upload(arguments: argparse.Namespace) -> int:
    record = arguments.run / "metrics.jsonl"
    if not record.is_file():
        raise ConfigError(f"{record}: there is no such file; expected the folder of a run")
    folder = arguments.output or arguments.run / "upload"
    if (folder / arguments.to).exists():
        raise ConfigError(f"{folder / arguments.to} exists: the run was sent before; delete it, or choose another -o")
    writer = _writer(arguments, folder)
    try:
        missing = replay(record, writer)
        writer.close()
    except HwError:
        raise
    except Exception as error:  # a tracker's own, of any kind
        raise ConfigError(f"{arguments.to} failed: {type(error).__name__}: {error}") from error
    if missing:
        log.warning("%d files of media are missing or incomplete and left out, the first: %s", len(missing), missing[0])
    print(f"{record} -> {arguments.to}" + (f", in {folder / arguments.to}" if (folder / arguments.to).exists() else ""))
    return 0


def _writer(arguments: argparse.Namespace, folder: Path) -> Writer:
    if arguments.to == "tensorboard":
        return TensorBoardWriter(folder)
    kind = CometWriter if arguments.to == "comet" else WandbWriter
    config = _config(arguments.run / "config.json")
    name = f"{config.get('name', 'run')} {arguments.run.resolve().name}"
    mode: Any = "offline" if arguments.offline else "online"
    return kind(folder, name, config, project=arguments.project, workspace=arguments.workspace, mode=mode)


def _config(path: Path) -> dict[str, Any]:
    """The run's config; without one the parameters are left out."""
    try:
        config = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        log.warning("%s: cannot be read, so the parameters are left out: %s", path, error)
        return {}
    return config if isinstance(config, dict) else {}


def replay(record: Path, writer: Writer) -> list[str]:
    """Report every row of a record, in order.

    Args:
        record: ``metrics.jsonl`` of a run, with ``media`` beside it.
        writer: is given everything; not closed.

    Returns:
        Files of media that are missing or incomplete.
    """
    missing: list[str] = []
    for row in tqdm(read_rows(record), record.parent.name, leave=False, disable=None):
        try:
            _report(row, record.parent, writer)
        except DataError as error:
            missing.append(str(error))
    return missing


def _report(row: Mapping[str, Any], folder: Path, writer: Writer) -> None:
    split, step = row.get("split", ""), int(row.get("step", 0))
    prefix, caption = f"{split}/" if split else "", str(row.get("caption", ""))
    if "table" in row:
        writer.table(f"{prefix}{row['table']}", row["columns"], row["rows"], step)
    elif "value" in row and isinstance(row.get("text"), str):
        writer.text(f"{prefix}{row['text']}", row["value"], step)
    elif "file" in row and "image" in row:
        writer.image(f"{prefix}{row['image']}", _picture(folder / row["file"]), step, caption)
    elif "file" in row and "audio" in row:
        writer.audio(f"{prefix}{row['audio']}", *_sound(folder / row["file"]), step, caption)
    else:
        values = {f"{prefix}{key}": value for key, value in row.items() if key not in ("step", "split")}
        numbers = {name: number for name, value in values.items() if (number := _number(value)) is not None}
        writer.scalars(numbers, step)


def _number(value: Any) -> float | None:
    """As the record writes them: what is not finite is a string."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _picture(path: Path) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingPackageError("a picture", "pillow") from error
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), dtype=np.uint8)
    except (OSError, SyntaxError) as error:  # which Pillow raises for a picture that is not whole
        raise DataError(str(path)) from error


def _sound(path: Path) -> tuple[Tensor, int]:
    """What `hw_base.writers.media.wav_bytes` wrote: (S,) in [-1, 1], and its rate."""
    try:
        with wave.open(str(path), "rb") as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
            if len(samples) < file.getnframes():
                raise EOFError
            return torch.from_numpy(samples.astype(np.float32) / 32767), file.getframerate()
    except (OSError, EOFError, wave.Error) as error:
        raise DataError(str(path)) from error


if __name__ == "__main__":
    sys.exit(main())

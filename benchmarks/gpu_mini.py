"""Real speech on one GPU in eight minutes, the test included: ``python -m benchmarks.gpu_mini train PACKED -o RUN``.

``python -m benchmarks.gpu_mini pack PACKED --data DIR`` makes the miniature of LibriSpeech small enough to carry to
another machine: the recordings of a config's splits in tar files, below 60 MB. Test recordings and those of few bits a
second stay as they are, the others become Opus of as many bits as there is room for.

``train`` measures the pace of the config's training on the device, sets the number of steps so that the schedule of the
learning rate ends within the minutes, trains, tests the best checkpoint by val once, and writes ``figures.json``.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

import hw_asr  # noqa: F401 - fills the registries
from benchmarks import gpu, measuring
from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.config.schema import TEST_PREFIX, TRAIN_SPLIT
from hw_base.data.dataset import Record
from hw_base.datasets import shards
from hw_base.errors import REQUEUE_EXIT_CODE, ConfigError, HwError
from hw_base.runs.experiment import Experiment
from hw_base.runs.folder import best_checkpoint

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "librispeech_mini" / "conformer_cr.json"
KEPT_KBIT = 40.0  # a second; recordings of less stay as they are
LEVELS = (0.7, 0.8, 0.85, 0.9, 0.92, 0.95, 1.0)  # of Opus, from 83 down to 7 kbit a second of speech at 16 kHz
SAMPLE = 10  # each tenth recording shows how large all will be
AROUND = 2_600  # bytes of an utterance beside its audio: heads and padding in the tar file, its line of the index
# Of the minutes, what is left for evaluations, the test and its start; of the pace, what is counted on.
REST, SURE = 0.15, 0.85


def pack(config: Path, data: str, folder: Path, megabytes: float) -> int:
    """Write the recordings of a config's splits into ``folder/SPLIT``; the number of bytes.

    Raises:
        ConfigError: the folder is not empty, or they do not fit.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder}: exists already; choose another, or delete it")
    written = dict(read(str(config)))
    experiment = Experiment(resolve(written, [f"data.*.datasets.*.args.root={data}"]), torch.device("cpu"))
    splits = {name: experiment.split(name, name != TRAIN_SPLIT).records for name in written["data"]}
    level = choose_level(splits, int(1e6 * megabytes))
    for name, records in splits.items():
        shards.pack(contents(name, records, level), folder / name, 1 << 40)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if size > 1e6 * megabytes:
        raise ConfigError(f"{folder}: has {size / 1e6:.1f} MB, more than --megabytes {megabytes:g}; limit the splits")
    return size


def choose_level(splits: dict[str, list[Record]], room: int) -> float:
    """The first of `LEVELS` with which everything fits, found by a sample.

    Raises:
        ConfigError: none.
    """
    fixed, encoded = 0, []
    for name, records in splits.items():
        for record in records:
            kept = stays(name, record)
            fixed += AROUND + (os.path.getsize(record.audio_path) if kept else 0)
            encoded += [] if kept else [record]
    sample = encoded[::SAMPLE]
    share = sum(r.duration for r in encoded) / max(1e-9, sum(r.duration for r in sample))
    for level in LEVELS:
        size = fixed + share * sum(len(opus(record, level)) for record in sample)
        if size <= room:
            return level
    raise ConfigError(f"the splits need about {size / 1e6:.1f} MB, more than --megabytes {room / 1e6:g}")


def stays(split: str, record: Record) -> bool:
    """Whether a recording is packed as it is."""
    kbit = 8e-3 * os.path.getsize(record.audio_path) / record.duration
    return split.startswith(TEST_PREFIX) or kbit < KEPT_KBIT


def opus(record: Record, level: float) -> bytes:
    """A recording in Opus."""
    import soundfile

    samples, rate = soundfile.read(record.audio_path, dtype="float32")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="OGG", subtype="OPUS", compression_level=level)
    return buffer.getvalue()


def contents(split: str, records: Sequence[Record], level: float) -> Iterator[tuple[Record, bytes, str]]:
    """What `shards.pack` packs."""
    for record in records:
        path = Path(record.audio_path)
        if stays(split, record):
            yield record, path.read_bytes(), path.suffix.lower()
        else:
            yield record, opus(record, level), ".opus"


def changes(packed: Path, names: Sequence[str], device: torch.device) -> list[str]:
    """To the config: the packed recordings, kept in memory, read by as many processes as there are processors."""
    missing = [name for name in names if not (packed / name / shards.INDEX).is_file()]
    if missing:
        raise ConfigError(f"{packed}: has no {', '.join(missing)}; python -m benchmarks.gpu_mini pack {packed}")
    workers = min(8, os.cpu_count() or 1) if device.type == "cuda" else 0
    made = ["writers=[]", f"data.{TRAIN_SPLIT}.workers={workers}"]
    for name in names:
        dataset = {"type": "Shards", "args": {"path": str((packed / name).resolve())}}
        made += [f"data.{name}.datasets={json.dumps([dataset])}", f"data.{name}.cache=memory"]
    return made


def pace(config: Any, device: torch.device, seconds: float) -> float:
    """Steps of training a second, loading included, measured after a warm-up of half of the seconds."""
    training = gpu.Training(config, device, compiled=False)
    training.steps(50, seconds / 2)
    steps, _, took = training.steps(200, seconds / 2)
    return steps / took


def train(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train and test: what ``figures.json`` holds."""
    began = time.monotonic()
    config = dict(read(str(arguments.config)))
    sets = [*changes(arguments.packed, list(config["data"]), device), *arguments.set, f"seed={arguments.seed}"]
    steps, measured = arguments.max_steps, None
    left = 60 * arguments.minutes * (1 - REST)
    if steps is None:
        measured = pace(resolve(config, [*sets, "trainer.max_steps=1000000"]), device, left / 12)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        left -= time.monotonic() - began
        steps = int(SURE * measured * left)
        if steps < 1:
            raise ConfigError(f"--minutes {arguments.minutes:g}: no time is left to train after the start")
    run: Path = arguments.output.resolve()
    length = [
        f"trainer.max_steps={steps}",
        f"trainer.eval_every={max(1, steps // 6)}",
        f"trainer.max_hours={left / 3600:.5f}",
    ]
    code = program("train.py", "-c", str(arguments.config), "--run-dir", str(run), device=device, sets=[*sets, *length])
    trained = time.monotonic()
    program("test.py", "-r", str(best_checkpoint(run)), "-o", str(run / "output.json"), device=device)
    ended = time.monotonic()
    (entry,) = json.loads((run / "metrics.json").read_text(encoding="utf-8")).values()
    return {
        "config": str(arguments.config),
        "seed": arguments.seed,
        "device": str(device),
        "machine": measuring.machine(),
        "steps_per_second": measured,
        "steps": steps,
        "ended_early": code == REQUEUE_EXIT_CODE,
        "best_step": entry["step"],
        "minutes": {"training": (trained - began) / 60, "test": (ended - trained) / 60, "all": (ended - began) / 60},
        "figures": entry["splits"],
    }


def program(*command: str, device: torch.device, sets: Sequence[str] = ()) -> int:
    """Run one of the two programs: its exit code.

    Raises:
        ConfigError: it failed; what it said stands above.
    """
    line = [sys.executable, *command, "-d", str(device), *(["--set", *sets] if sets else [])]
    code = subprocess.run(line, cwd=ROOT, check=False).returncode
    if code not in (0, REQUEUE_EXIT_CODE):
        raise ConfigError(f"{command[0]}: ended with exit code {code}; what it said stands above")
    return code


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    packing = parts.add_parser("pack", help="make the data small")
    packing.add_argument("--data", default="../shared/data", help="LibriSpeech: holds the config's parts")
    packing.add_argument("--megabytes", type=float, default=60.0, help="of all tar files (default: 60)")
    training = parts.add_parser("train", help="train and test")
    training.add_argument("--minutes", type=float, default=8.0, help="for all of it (default: 8)")
    training.add_argument("--seed", type=int, default=1)
    training.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    training.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes the config")
    training.add_argument("--max-steps", type=int, help="instead of the minutes, to see that everything runs")
    training.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    for part in (packing, training):
        part.add_argument("packed", type=Path, help="folder of the packed recordings")
        part.add_argument("-c", "--config", type=Path, default=CONFIG, help="default: that of CR-CTC")
    arguments = parser.parse_args(argv)
    try:
        if arguments.part == "pack":
            size = pack(arguments.config, arguments.data, arguments.packed, arguments.megabytes)
            print(f"{arguments.packed}: {size / 1e6:.1f} MB")
            return 0
        if arguments.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("no GPU was found; --device cpu trains on the processor")
        figures = train(arguments, torch.device(arguments.device))
    except HwError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    (arguments.output / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Peak memory of recognizing a long recording: ``python -m benchmarks.long_audio CONFIG ... [--audio DIR]``, on Linux.

A model of each config, with random weights, recognizes the recording in a new process, as ``hw_asr.recognize`` does on
its command line; its peak is the largest resident size of that whole process. The recording is the FLAC files under DIR
one after the other, else the embedded corpus, from the beginning again until it is full.
"""

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.decoding_memory import in_new_process, status
from hw_asr import recognize
from hw_base import checkpoint, task_packages
from hw_base.audio import io as audio
from hw_base.config.resolve import as_dict, build, load
from hw_base.registry import MODELS, TASKS
from hw_base.runs import cli
from hw_base.synthetic import sentences
from hw_base.synthetic.corpus import SyntheticSpeech

RATE = 16000


def recording(path: Path, minutes: float, folder: Path | None) -> None:
    if folder is None:
        files = [Path(record.audio_path or "") for record in SyntheticSpeech("val", sample_rate=RATE).records]
    else:
        files = sorted(folder.rglob("*.flac"))
    pieces, missing = [], round(60 * minutes * RATE)
    for file in itertools.cycle(files):
        piece = audio.load(file, RATE)[0][:missing]
        pieces.append(piece)
        missing -= len(piece)
        if not missing:
            break
    audio.save(path, torch.cat(pieces), RATE)


def random_model(config_path: str, path: Path) -> int:
    """Write a checkpoint of what the config describes; how many parameters it has."""
    config = load(config_path)
    task = TASKS[config.task](config)
    task.text_encoder.fit(sentences.draw("train", 2000, 0, "wide"))
    model = build("model", config.model, MODELS, **task.model_arguments())
    state = {"config": as_dict(config), "text_encoder": task.text_encoder.state_dict(), "model": model.state_dict()}
    checkpoint.save(path, state)
    return sum(parameter.numel() for parameter in model.parameters())


def recognized(arguments: list[str]) -> tuple[float, float]:
    """Largest resident size of this process in GB after the program ran in it, and its CPU seconds."""
    torch.set_num_threads(1)
    if recognize.main(arguments):
        raise SystemExit(f"it failed: {' '.join(arguments)}")
    return status("VmHWM") / 1e9, time.process_time()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument("--minutes", type=cli.positive(float), default=60.0, help="length of the recording")
    parser.add_argument("--audio", type=Path, metavar="DIR", help="folder with the FLAC files that it is made of")
    arguments = parser.parse_args(argv)
    for path in (*map(Path, arguments.configs), *filter(None, [arguments.audio])):
        if not path.exists():
            print(f"error: {path}: no such file", file=sys.stderr)
            return 2
    if arguments.audio and not next(arguments.audio.rglob("*.flac"), None):
        print(f"error: {arguments.audio}: has no FLAC files", file=sys.stderr)
        return 2
    task_packages.import_all()
    print(f"| config | parameters | minutes | peak GB | CPU s |\n|{'---|' * 5}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        sound, model = Path(folder) / "long.wav", Path(folder) / "model.pth"
        recording(sound, arguments.minutes, arguments.audio)
        for config in arguments.configs:
            size = random_model(config, model)
            options = ["-r", str(model), str(sound), "-d", "cpu", "--format", "json", "-o", folder]
            most, seconds = in_new_process(recognized, options)
            print(f"| {config} | {size:,} | {arguments.minutes:g} | {most:.2f} | {seconds:.0f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

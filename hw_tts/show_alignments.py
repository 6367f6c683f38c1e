# PYTHON_ARGCOMPLETE_OK
"""Draw alignments of data or of a checkpoint: ``python -m hw_tts.show_alignments -r CKPT -o DIR``."""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from hw_base import distributed
from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import ConfigError, DataError
from hw_base.runs import cli, outputs
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser
from hw_base.writers.media import png_bytes
from hw_base.writers.plots import Image
from hw_tts.data.phones import phones_of
from hw_tts.evaluation.pictures import Panel, pictures_of, speech_image, spoken
from hw_tts.evaluation.scores import pairs_of, speak_batch, vocoder_for
from hw_tts.tasks.opened import OpenedSynthesizer, synthesis_task


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_tts.show_alignments",
        "Draw which stretch of the spectrogram is which symbol.",
        ["-c configs/fastspeech2.json -o pictures", "-r runs/a --split val --limit 5 -o pictures"],
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config: the alignments of its data")
    source.add_argument("-r", "--resume", metavar="CKPT", help="checkpoint: how its model aligns and speaks the data")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where the pictures go")
    parser.add_argument("--split", metavar="NAME", help="default: train with -c, the first evaluated one with -r")
    parser.add_argument(
        "--limit", type=cli.positive(int), default=5, metavar="N", help="so many utterances; default: 5"
    )
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _of_checkpoint(arguments) if arguments.resume else _of_data(arguments), arguments.imports)


def _of_data(arguments: argparse.Namespace) -> int:
    """What the records say; every name is an utterance."""
    experiment = Experiment(config.load(arguments.config, arguments.set), torch.device("cpu"))
    task = synthesis_task(experiment, arguments.config)
    name = arguments.split or TRAIN_SPLIT
    split = experiment.split(name, evaluation=False)
    seconds = task.features.hop_length / task.features.sample_rate
    drawn = 0
    for index, record in enumerate(split.records):
        phones = phones_of(record, task.text_encoder)
        if phones is None:
            continue
        features = task.cache.get(record, functools.partial(split.waveform, index))
        title = f"{record.utterance_id}: {record.text or ''}"
        pitch = features["pitch"] * features["voiced"]  # without the lines over unvoiced stretches
        image = speech_image([Panel(title, features["spectrogram"], phones, pitch)], seconds)
        _write(Path(arguments.output) / outputs.file_name(record.utterance_id, ".png"), image)
        drawn += 1
        if drawn == arguments.limit:
            return 0
    if not drawn:
        raise DataError(f"{arguments.config}: no utterance of the split {name!r} has an alignment")
    return 0


@torch.inference_mode()
def _of_checkpoint(arguments: argparse.Namespace) -> int:
    """Alignment and speech of the model; two pictures an utterance."""
    opened = OpenedSynthesizer(arguments.resume, arguments.set, arguments.device)
    config, task = opened.experiment.config, opened.task
    split = opened.split(arguments.split or next(iter(config.evaluation_splits()), TRAIN_SPLIT))
    vocoder = vocoder_for(opened.model, config.trainer.args.get("vocoder"), task.features, opened.experiment.device)
    wanted = set(split.examples(arguments.limit))
    for batch in opened.batches_with(split, wanted):
        results = batch | opened.model(**batch)
        waveforms = speak_batch(opened.model, results, vocoder)
        for i, pair in enumerate(pairs_of(results, waveforms, task.features.sample_rate)):
            if pair.utterance_id not in wanted:
                continue
            drawn = pictures_of(spoken(results, i, pair, task.text_encoder), task.features)
            for what, image in drawn.items():
                _write(Path(arguments.output) / outputs.file_name(pair.utterance_id, f".{what}.png"), image)
    return 0


def _write(path: Path, image: Image) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png_bytes(image))
    except OSError as error:
        raise ConfigError(f"--output {path}: cannot be written: {error.strerror}") from None
    print(path)


if __name__ == "__main__":
    sys.exit(main())

# PYTHON_ARGCOMPLETE_OK
"""Alignments by a recognizer: ``python -m hw_tts.align -r RECOGNIZER.pth (-c CONFIG | --audio DIR) -o FOLDER``.

Or by a synthesizer that learned or searched them: ``python -m hw_tts.align -r SYNTHESIZER.pth -o FOLDER``.
"""

import argparse
import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import distributed, storage
from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT, Component
from hw_base.data.dataset import BaseDataset, Record
from hw_base.errors import ConfigError, DataError
from hw_base.recognizer import Recognizer
from hw_base.registry import DATASETS
from hw_base.runs import cli, outputs
from hw_base.runs.experiment import datasets_of
from hw_base.runs.parser import Parser
from hw_base.trained import load_recognizer
from hw_base.training.progress import Progress
from hw_tts.alignment.forced import align
from hw_tts.alignment.intervals import phones_from_durations, without_blanks
from hw_tts.tasks.opened import OpenedSynthesizer

log = logging.getLogger(__name__)

# One line for each utterance: no utterance's own file is called like it.
INDEX = "index.jsonl"
_MAX_NAMED = 20

Work = tuple[BaseDataset, Record]


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_tts.align",
        "Find out when the symbols of known texts are spoken, by the checkpoint of a recognizer, or of a synthesizer "
        "that learned or searched alignments.",
        [
            "-r asr.pth -c configs/ljspeech/fastspeech2.json -o alignments",
            "-r asr.pth --audio DIR -o alignments",
            "-r fastspeech2.pth -o alignments",
        ],
        epilog="writes <id>.json ([[symbol, start, end], ...], seconds), and of a recognizer's "
        f"alignments {INDEX} with their scores; files that are there are kept.",
    )
    parser.add_argument(
        "-r", "--recognizer", metavar="CKPT", required=True, help="checkpoint of a recognizer, or of a synthesizer"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="of a recognizer: align a split of this config; a synthesizer aligns its own",
    )
    source.add_argument(
        "--audio",
        metavar="DIR",
        help="of a recognizer: align a folder with audio/ and transcriptions/, or with both in it",
    )
    parser.add_argument("--split", default=TRAIN_SPLIT, help=f"of the config; default: {TRAIN_SPLIT}")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="where the alignments go")
    parser.add_argument(
        "--min-score", type=float, default=-1.0, help="of a recognizer: lower scores are listed; default: -1.0"
    )
    parser.add_argument("-b", "--batch-size", type=cli.positive(int), default=8, help="of a recognizer; default: 8")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.config is None and arguments.audio is None:
            opened = OpenedSynthesizer(arguments.recognizer, arguments.set, arguments.device)
            align_own(opened, arguments.split, Path(arguments.output))
            return 0
        datasets = _datasets(arguments)
        recognizer = load_recognizer(arguments.recognizer, distributed.start(arguments.device))
        align_all(recognizer, datasets, Path(arguments.output), arguments.batch_size, arguments.min_score)
        return 0

    return cli.run(work, arguments.imports)


@torch.inference_mode()
def align_own(opened: OpenedSynthesizer, split: str, folder: Path) -> None:
    """Write how a synthesizer aligns the recordings of a split of its config; files that are there are kept.

    Args:
        opened: whose model learned or searched alignments.
        split: its name.
        folder: is made; gets a file for each utterance.

    Raises:
        ConfigError: the model aligns nothing itself, or the folder cannot be written to.
        DataError: audio cannot be read.
    """
    if opened.experiment.config.model.args.get("alignment", "given") == "given":
        raise ConfigError(f"{opened.path}: its model takes durations from the data and aligns nothing itself")
    _make(folder)
    data = opened.split(split)
    records = {record.utterance_id: record for record in data.records}
    missing = {name for name, record in records.items() if not _file(folder, record).is_file()}
    log.info("%d utterances, %d of them are aligned already", len(records), len(records) - len(missing))
    features, front_end = opened.task.features, opened.task.text_encoder
    with Progress(0, len(missing)) as progress:
        for batch in opened.batches_with(data, missing):
            durations = opened.model(**batch)["durations"].cpu()
            for i, name in enumerate(batch["utterance_id"]):
                if name not in missing:
                    continue
                n_tokens = int(batch["tokens_length"][i])
                symbols = front_end.names(batch["tokens"][i, :n_tokens].tolist())
                symbols, frames = without_blanks(symbols, durations[i, :n_tokens].tolist())
                phones = phones_from_durations(symbols, frames, features.sample_rate, features.hop_length)
                _write(folder, records[name], phones)
                progress.advance()
    log.info("%d alignments in %s", len(records), folder)


def align_all(
    recognizer: Recognizer, datasets: Sequence[BaseDataset], folder: Path, batch_size: int, min_score: float
) -> None:
    """Align every utterance that has no file yet, shortest first, and list those that look wrong.

    Args:
        recognizer: that gives the probabilities.
        datasets: whose utterances have texts.
        folder: is made; gets a file for each utterance and the index.
        batch_size: utterances that are recognized at a time.
        min_score: utterances below are listed as doubtful.

    Raises:
        ConfigError: the folder cannot be written to.
        DataError: audio cannot be read.
    """
    _make(folder)
    work = [(dataset, record) for dataset in datasets for record in dataset.records]
    open_work = [(d, r) for d, r in work if not _file(folder, r).is_file()]
    log.info("%d utterances, %d of them are aligned already", len(work), len(work) - len(open_work))
    open_work.sort(key=lambda item: item[1].duration)
    doubtful: dict[str, str] = {}
    with Progress(0, len(open_work)) as progress, (folder / INDEX).open("a", encoding="utf-8") as index:
        for start in range(0, len(open_work), batch_size):
            for record, row in _align_batch(recognizer, open_work[start : start + batch_size], folder):
                index.write(json.dumps({"utterance_id": record.utterance_id, **row}, ensure_ascii=False) + "\n")
                if row["score"] is None or row["score"] < min_score:
                    doubtful[record.utterance_id] = row.get("error") or f"score {row['score']:.2f}"
                progress.advance()
            index.flush()
    log.info("%d alignments in %s", sum(_file(folder, record).is_file() for _, record in work), folder)
    if doubtful:
        named = "; ".join(f"{name}: {why}" for name, why in list(doubtful.items())[:_MAX_NAMED])
        log.warning("%d of %d look wrong, see %s: %s", len(doubtful), len(open_work), folder / INDEX, named)


def _align_batch(
    recognizer: Recognizer, batch: Sequence[Work], folder: Path
) -> Iterator[tuple[Record, dict[str, Any]]]:
    """Write the alignments of some utterances; what the index says of each."""
    by_rate: dict[int, list[tuple[Record, Tensor]]] = {}
    for dataset, record in batch:
        try:
            waveform, rate = dataset.read(record)
        except DataError as error:
            raise DataError(f"utterance {record.utterance_id!r}: {error}") from error
        by_rate.setdefault(rate, []).append((record, waveform))
    for rate, group in by_rate.items():
        log_probs, lengths = recognizer.posteriors([waveform for _, waveform in group], rate)
        for (record, waveform), row, length in zip(group, log_probs.cpu(), lengths.tolist(), strict=True):
            try:
                found = align(recognizer, record.text or "", row[:length], len(waveform) / rate)
            except DataError as error:
                yield record, {"score": None, "error": str(error)}
                continue
            _write(folder, record, found.phones)
            yield record, {"score": round(found.score, 4), "tokens": len(found.phones), "frames": length}


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be made: {error.strerror}") from None


def _write(folder: Path, record: Record, phones: Iterable[Sequence[Any]]) -> None:
    storage.write_json(
        _file(folder, record), [[symbol, round(start, 5), round(end, 5)] for symbol, start, end in phones]
    )


def _file(folder: Path, record: Record) -> Path:
    return folder / outputs.file_name(record.utterance_id, ".json")


def _datasets(arguments: argparse.Namespace) -> list[BaseDataset]:
    """What is to be aligned, with texts."""
    if arguments.audio is not None:
        folder = Path(arguments.audio)
        args: dict[str, Any] = {"root": str(folder)}
        if not (folder / "audio").is_dir():
            args = {"audio_dir": str(folder), "transcription_dir": str(folder)}
        datasets = [config.build("--audio", Component(type="CustomDir", args=args), DATASETS)]
    else:
        datasets = datasets_of(config.load(arguments.config, arguments.set), arguments.split)
    records = [record for dataset in datasets for record in dataset.records]
    silent = [record.utterance_id for record in records if not (record.text or "").strip()]
    if silent:
        raise DataError(f"{len(silent)} of {len(records)} utterances have no text, for example {silent[0]!r}")
    return datasets


if __name__ == "__main__":
    sys.exit(main())

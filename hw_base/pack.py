# PYTHON_ARGCOMPLETE_OK
"""Pack a split's recordings into tar files, which `Shards` reads: ``python -m hw_base.pack -c CONFIG -o DIR``."""

import argparse
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.data.dataset import BaseDataset, Record
from hw_base.datasets import shards
from hw_base.errors import ConfigError, DataError, MissingPackageError
from hw_base.runs import cli
from hw_base.runs.experiment import datasets_of
from hw_base.runs.parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_base.pack",
        "Pack the recordings of a config's split into tar files in WebDataset's format, with an index.",
        ["-c configs/ds2.json --split train -o shards/train", "--index shards/train"],
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config whose datasets are packed")
    parser.add_argument("--split", default=TRAIN_SPLIT, help="of the config (default: train)")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="where the tar files go; new, or empty")
    parser.add_argument(
        "--shard-mb", type=cli.positive(int), default=512, help="about the size of a tar file (default: 512)"
    )
    parser.add_argument("--index", metavar="DIR", type=Path, help="only write the index of tar files that are there")
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _work(arguments), arguments.imports)


def _work(arguments: argparse.Namespace) -> int:
    if arguments.index is not None:
        print(f"{arguments.index}: {shards.write_index(arguments.index)} utterances")
        return 0
    if arguments.config is None or arguments.output is None:
        raise ConfigError("-c CONFIG and -o DIR are needed, or --index DIR alone")
    folder: Path = arguments.output
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"-o {folder}: exists already; choose another, or delete it")
    loaded = config.load(arguments.config, arguments.set)
    datasets = datasets_of(loaded, arguments.split)
    try:
        count = shards.pack(_utterances(datasets), folder, arguments.shard_mb << 20)
    except ImportError as error:
        raise MissingPackageError("packing shards", "webdataset") from error
    except OSError as error:
        raise DataError(f"-o {folder}: {error.strerror}; make room, or choose another") from error
    print(f"{folder}: {count} utterances in {len(list(folder.glob('*.tar')))} tar files")
    return 0


def _utterances(datasets: Sequence[BaseDataset]) -> Iterator[tuple[Record, bytes, str]]:
    """Every record with its audio file: as it is, or written anew where the record is not all of one file."""
    for dataset in datasets:
        for record in dataset.records:
            if "audio_error" in record.extra:
                raise DataError(f"utterance {record.utterance_id!r}: {record.extra['audio_error']}; mend or remove it")
            whole = record.offset is None and "reading" not in record.extra and type(dataset).read is BaseDataset.read
            if whole:
                path = Path(record.audio_path)
                yield record, _content(record, path), path.suffix.lower()
            else:
                yield record, _as_flac(dataset, record), ".flac"


def _content(record: Record, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fault = f"utterance {record.utterance_id!r}: {path}: {error.strerror}"
        raise DataError(f"{fault}; mend the index, or remove it from there") from error


def _as_flac(dataset: BaseDataset, record: Record) -> bytes:
    import soundfile

    waveform, rate = dataset.read(record)
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform.clamp(-1.0, 1.0).numpy(), rate, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())

# PYTHON_ARGCOMPLETE_OK
"""``python -m hw_tts.import_checkpoint``: checkpoints of the public MB-iSTFT-VITS2 program to this project's and back.

    python -m hw_tts.import_checkpoint G_312000.pth D_312000.pth DUR_312000.pth --config config.json -o checkpoint.pth
    python -m hw_tts.import_checkpoint G_312000.pth --config config.json --measure filelist.txt -o checkpoint.pth
    python -m hw_tts.import_checkpoint checkpoint.pth --export FOLDER

With ``--measure`` the recordings of the old speakers are measured, so that new ones can be compared with them (see
`hw_tts.speakers.initial.NearestSpeaker`).

The files are read as tensors and plain containers only; whatever else they hold is refused, and nothing in them runs.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hw_base import checkpoint, trained
from hw_base.audio import io as audio
from hw_base.config import read as config_files
from hw_base.config.resolve import build, resolve
from hw_base.data.dataset import Record
from hw_base.datasets.file_list import FileList
from hw_base.errors import ConfigError
from hw_base.registry import FEATURES
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.public.vits2 import export, import_files, read_symbols
from hw_tts.speakers.table import measure

log = logging.getLogger(__name__)

# Mean and deviation of a voice need no more.
MEASURED_PER_SPEAKER = 50


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_tts.import_checkpoint",
        "Import public MB-iSTFT-VITS2 checkpoints, or export to them.",
        [
            "G_312000.pth D_312000.pth DUR_312000.pth --config config.json -o checkpoint.pth",
            "checkpoint.pth --export public",
        ],
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="G_*.pth [D_*.pth DUR_*.pth]; or our checkpoint")
    parser.add_argument("--config", metavar="JSON", help="the public config that belongs to the files")
    parser.add_argument("-o", "--output", metavar="FILE", help="the checkpoint to write")
    parser.add_argument(
        "--symbols", metavar="FILE", help="the program's table of symbols, where it is not a public one"
    )
    parser.add_argument(
        "--measure", metavar="LIST", help="path|speaker|text a line: recordings of the speakers, to be measured"
    )
    parser.add_argument("--root", metavar="DIR", help="what paths in LIST are relative to (default: its folder)")
    parser.add_argument("--export", metavar="DIR", help="write our checkpoint as public files")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    files = [Path(file) for file in arguments.files]

    def work() -> int:
        if arguments.export is not None:
            if len(files) != 1:
                raise ConfigError("--export: goes with one checkpoint of this project")
            for path in export(trained.read(files[0]), Path(arguments.export), files[0]):
                print(path)
            return 0
        if arguments.config is None or arguments.output is None:
            raise ConfigError("an import needs --config, the public config of the files, and -o, the file to write")
        symbols = read_symbols(Path(arguments.symbols)) if arguments.symbols else None
        original = config_files.read(arguments.config)
        listed = FileList(arguments.measure, arguments.root) if arguments.measure else None
        state = import_files(files, original, Path(arguments.config).stem, symbols)
        if listed is not None:
            state["task"]["voices"] = measure_voices(state, listed)
        checkpoint.save(Path(arguments.output), state)
        count = sum(value.numel() for name, value in state["model"].items() if name.startswith("generator."))
        at = f"step {state['step']}, epoch {state['epoch']}, {len(state['task']['speakers'])} speakers"
        print(f"{arguments.output}: {at}, {count:,} parameters")
        return 0

    return cli.run(work, arguments.imports)


def measure_voices(state: Mapping[str, Any], listed: FileList) -> dict[str, Tensor]:
    """What `hw_tts.speakers.table.measure` finds in recordings of an imported checkpoint's speakers.

    Args:
        state: the checkpoint.
        listed: recordings; their speakers are named by number, as in the program's lists.

    Raises:
        ConfigError: the checkpoint has no such speakers.
        DataError: a recording cannot be read.
    """
    config, speakers = resolve(state["config"]), state["task"]["speakers"]
    features: TTSFeatures = build("features", config.features, FEATURES)
    chosen: dict[str, list[Record]] = {}
    for record in listed.records:
        chosen.setdefault(record.speaker or speakers[0], []).append(record)
    unknown = sorted(chosen.keys() - set(speakers))
    if unknown:
        known = f"{speakers[0]} to {speakers[-1]}"
        raise ConfigError(f"--measure: the checkpoint has no speakers {', '.join(unknown[:10])}; it has {known}")
    silent = len(speakers) - len(chosen)
    if silent:
        log.warning("--measure: %d of %d speakers have no recordings in the list", silent, len(speakers))

    def features_of(record: Record) -> dict[str, Tensor]:
        waveform, rate = listed.read(record)
        return features.all_of(audio.resample(waveform, rate, features.sample_rate))

    records = [replace(r, speaker=name) for name, found in chosen.items() for r in found[:MEASURED_PER_SPEAKER]]
    log.info("measuring %d recordings of %d speakers", len(records), len(chosen))
    return measure(records, features_of)


if __name__ == "__main__":
    sys.exit(main())

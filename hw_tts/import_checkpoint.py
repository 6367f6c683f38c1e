"""``python -m hw_tts.import_checkpoint``: checkpoints of the public MB-iSTFT-VITS2 program to this project's and back.

    python -m hw_tts.import_checkpoint G_312000.pth D_312000.pth DUR_312000.pth --config config.json -o checkpoint.pth
    python -m hw_tts.import_checkpoint checkpoint.pth --export FOLDER

The files are read as tensors and plain containers only; whatever else they hold is refused, and nothing in them runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hw_base import checkpoint
from hw_base import task_packages as packages
from hw_base.config import read as config_files
from hw_base.errors import ConfigError
from hw_base.runs import cli
from hw_tts.public.vits2 import export, import_files, read_symbols


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m hw_tts.import_checkpoint",
        description="Import public MB-iSTFT-VITS2 checkpoints, or export to them.",
        allow_abbrev=False,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="G_*.pth [D_*.pth DUR_*.pth]; or our checkpoint")
    parser.add_argument("--config", metavar="JSON", help="the public config that belongs to the files")
    parser.add_argument("-o", "--output", metavar="FILE", help="the checkpoint to write")
    parser.add_argument(
        "--symbols", metavar="FILE", help="the program's table of symbols, where it is not a public one"
    )
    parser.add_argument("--export", metavar="DIR", help="write our checkpoint as public files")
    arguments = parser.parse_args(argv)
    files = [Path(file) for file in arguments.files]

    def work() -> int:
        packages.import_all()
        if arguments.export is not None:
            if len(files) != 1:
                raise ConfigError("--export: goes with one checkpoint of this project")
            for path in export(checkpoint.load(files[0]), Path(arguments.export)):
                print(path)
            return 0
        if arguments.config is None or arguments.output is None:
            raise ConfigError("an import needs --config, the public config of the files, and -o, the file to write")
        symbols = read_symbols(Path(arguments.symbols)) if arguments.symbols else None
        original = config_files.read(arguments.config)
        state = import_files(files, original, Path(arguments.config).stem, symbols)
        checkpoint.save(Path(arguments.output), state)
        count = sum(value.numel() for name, value in state["model"].items() if name.startswith("generator."))
        at = f"step {state['step']}, epoch {state['epoch']}, {len(state['task']['speakers'])} speakers"
        print(f"{arguments.output}: {at}, {count:,} parameters")
        return 0

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(main())

"""The command lines of ``train.py`` and ``test.py``, and how errors end a program."""

import argparse
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from hw_base import distributed, task_packages, trained
from hw_base.config import components
from hw_base.config.resolve import as_dict, read
from hw_base.config.schema import TEST_PREFIX, TRAIN_SPLIT
from hw_base.errors import HwError
from hw_base.registry import TASKS
from hw_base.runs import folder as run_folder
from hw_base.runs import logs
from hw_base.runs import train as training
from hw_base.runs.parser import Parser
from hw_base.writers.multi import HUNG

log = logging.getLogger(__name__)


def train_main(argv: Sequence[str] | None = None) -> int:
    """``train.py``; the exit code."""
    parser = Parser(
        "train.py",
        "Train a model from a config, or resume from a checkpoint.",
        [
            "-c configs/ds2.json",
            "-c configs/ds2.json --run-dir runs/a -r auto --set trainer.epochs=20",
            "-r runs/a --lr 1e-4",
        ],
    )
    _common(parser)
    parser.add_argument(
        "-r",
        "--resume",
        metavar="PATH",
        help="checkpoint (a file or an address), run folder, or 'auto': the newest good one",
    )
    parser.add_argument("--run-dir", metavar="DIR", help="folder of the run (default: saved/<name>/<time>)")
    parser.add_argument("--lr", "--learning_rate", type=positive(float), help="learning rate of every optimizer")
    parser.add_argument("--bs", "--batch_size", type=positive(int), help="training batch size")
    parser.add_argument("--one-batch", action="store_true", help="sanity check: overfit one batch")
    parser.add_argument("--dry-run", action="store_true", help="build everything, try one batch, write nothing")
    parser.add_argument("--print-config", action="store_true", help="print the complete config and stop")
    arguments = parser.parse_args(argv)

    def work() -> int:
        config, source = training.choose_config(arguments)
        if arguments.print_config:
            print(json.dumps(as_dict(config), indent=2))
        else:
            training.train(arguments, config, source)
        return 0

    return run(work, arguments.imports)


def evaluate_main(argv: Sequence[str] | None = None) -> int:
    """``test.py``; the exit code."""
    parser = Parser(
        "test.py",
        "Evaluate a checkpoint and write its predictions.",
        ["-r runs/a -o output.json", "-r model.pth -t DIR --predictions predictions"],
    )
    _common(parser)
    default = "default_test_model/checkpoint.pth"
    meaning = (
        f"checkpoint: a file, an address (https:// or hf://), or a run folder for its best one (default: {default})"
    )
    parser.add_argument("-r", "--resume", metavar="PATH", default=default, help=meaning)
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="output.json", help="predictions (default: output.json)"
    )
    parser.add_argument(
        "-t",
        "--test-data-folder",
        metavar="PATH",
        help="folder with audio/ and perhaps transcriptions/, other folder of audio, one file, or corpus",
    )
    parser.add_argument("-b", "--batch-size", type=positive(int), help="evaluation batch size")
    parser.add_argument("-j", "--jobs", type=int, help="processes that read audio")
    parser.add_argument(
        "--decoder", metavar="NAME", help="decoder whose texts are the result (default: as the config says)"
    )
    parser.add_argument("--predictions", metavar="DIR", help="also write one <id>.txt for each utterance")
    arguments = parser.parse_args(argv)

    def work() -> int:
        arguments.resume = str(run_folder.best_checkpoint(arguments.resume))
        state = trained.read(arguments.resume)
        given = read(arguments.config) if arguments.config else {}
        if arguments.decoder is not None:
            given["decoder"] = arguments.decoder
        raw = {**state["config"], **given}
        task_packages.import_task(raw.get("task"))
        task = TASKS.get(raw.get("task", ""))
        if arguments.test_data_folder is not None and task is not None:
            folder = {"datasets": [task.folder_dataset(arguments.test_data_folder)]}
            kept = {name: split for name, split in raw["data"].items() if not name.startswith(TEST_PREFIX)}
            raw["data"] = {**kept, "test": folder}
            if "data" in given:  # which is laid over what `raw` has
                given["data"] = raw["data"]
        overrides = list(arguments.set)
        for name in raw.get("data", {}):
            if name != TRAIN_SPLIT:
                overrides += [f"data.{name}.batch_size={arguments.batch_size}"] if arguments.batch_size else []
                overrides += [f"data.{name}.workers={arguments.jobs}"] if arguments.jobs is not None else []
        config = trained.config_of(raw, arguments.resume, trained.Given(given, overrides))
        device = distributed.start(arguments.device)
        logs.start()
        code: int = TASKS[config.task](config).test(arguments, state, device)
        return code

    return run(work, arguments.imports)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config")
    add_import(parser)
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    add_set(parser)


def add_set(parser: argparse.ArgumentParser, text: str = "change keys: a.b.c=value, a.*.c=value; many or few") -> None:
    """Add ``--set`` to a program: ``--set KEY=VALUE KEY=VALUE ...``, any number of times."""
    parser.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=text)


def add_import(parser: argparse.ArgumentParser) -> None:
    """``--import PACKAGE``, for every program that opens a config or a checkpoint; `run` imports them first."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package of yours whose models, losses, ... join those that configs may name; any number of times",
    )


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A type for `argparse`: a number above 0."""

    def parse(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"expected more than 0, found {text}")
        return value

    parse.__name__ = kind.__name__
    return parse


def leave(code: int) -> NoReturn:
    """End a program, also when a tracker's threads would not end."""
    if HUNG:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(work: Callable[[], int], imports: Sequence[str] = ()) -> int:
    """Do the work of a program; errors that are meant for the user become plain lines and an exit code.

    Args:
        work: gives the exit code.
        imports: packages to import first, of ``--import``.

    Returns:
        0, what `work` returned, or the error's own exit code: 2 for mistakes in what was given.
    """
    logs.start()
    try:
        components.import_packages(imports)
        return work()
    except HwError as error:
        if logging.getLogger().handlers:
            log.debug("ended by %s", type(error).__name__)
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    except NotImplementedError as error:
        if not imports:
            raise
        print(f"error: still to be written: {components.unwritten(error)}", file=sys.stderr)
        return HwError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output went away: `train.py --print-config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    finally:
        distributed.stop()

# PYTHON_ARGCOMPLETE_OK
"""Search a decoder's language-model weights: ``python -m hw_asr.tune_decoder -r CKPT --decoder NAME [-o DIR]``."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hw_asr.decoders import BaseDecoder, GreedyDecoder, TransducerGreedyDecoder
from hw_asr.evaluation import tuning
from hw_asr.evaluation.tuning import Point
from hw_base import distributed, trained
from hw_base.config.resolve import as_dict, build, read, resolve
from hw_base.config.schema import TEST_PREFIX, Component, Config
from hw_base.errors import ConfigError
from hw_base.registry import DECODERS, suggest
from hw_base.runs import cli, logs
from hw_base.runs import folder as run_folder
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser

LM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
WORD_SCORES = (-2.0, -1.0, 0.0, 1.0, 2.0)
TUNED = ("lm_weight", "word_score")
EXAMPLE = "--set 'decoders.beam_lm={type: BeamSearch, args: {lm: lm.arpa}}'"


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _work(arguments), arguments.imports)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "python -m hw_asr.tune_decoder",
        "Search lm_weight and word_score of a decoder on an evaluation split, posteriors computed once.",
        [f"-r runs/a {EXAMPLE} -o tuned"],
    )
    parser.add_argument("-r", "--resume", metavar="CKPT", required=True, help="checkpoint")
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config laid over the checkpoint's")
    parser.add_argument("--decoder", metavar="NAME", help="in the config; not needed if only one has a language model")
    parser.add_argument("--split", default="val", help="to search on; never a test split (default: val)")
    for option, values in (("--lm-weight", LM_WEIGHTS), ("--word-score", WORD_SCORES)):
        shown = ",".join(f"{value:g}" for value in values)
        parser.add_argument(option, type=_numbers, default=values, metavar="X,Y,...", help=f"default: {option}={shown}")
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    cli.add_set(parser, f"change a key, for example {EXAMPLE}")
    parser.add_argument("-o", "--output", metavar="DIR", default="tuned", help="default: tuned")
    cli.add_import(parser)
    return parser


def _numbers(text: str) -> tuple[float, ...]:
    try:
        numbers = sorted({float(number) for number in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected numbers with commas between them, found {text!r}")
    return tuple(numbers)


def _work(arguments: argparse.Namespace) -> int:
    arguments.resume = str(run_folder.best_checkpoint(arguments.resume))
    state = trained.read(arguments.resume)
    given = read(arguments.config) if arguments.config else {}
    config = trained.config_of(state["config"], arguments.resume, trained.Given(given, arguments.set))
    _check_split(config, arguments.split)
    name = choose_decoder(config, arguments.decoder)
    for key in TUNED:
        for value in vars(arguments)[key]:
            resolve(as_dict(config), [f"decoders.{name}.args.{key}={value}"])
    device = distributed.start(arguments.device)
    logs.start()
    experiment = Experiment(config, device, state)
    encoder, model = experiment.task.text_encoder, experiment.model().eval()

    def make(lm_weight: float, word_score: float) -> BaseDecoder:
        section = _with_weights(config.decoders[name], lm_weight, word_score)
        decoder: BaseDecoder = build(f"decoders.{name}", section, DECODERS, text_encoder=encoder)
        decoder.bind(model)
        return decoder

    # What a decoder refuses is reported before the posteriors are computed.
    reads = make(arguments.lm_weight[-1], max(arguments.word_score, key=abs)).reads
    folder = Path(arguments.output)
    split = experiment.split(arguments.split, evaluation=True)
    experiment.report_unknown(split)
    posteriors = tuning.compute_once(experiment, split, Path(arguments.resume), folder, reads, model)
    plain = (GreedyDecoder if reads == GreedyDecoder.reads else TransducerGreedyDecoder)(encoder)
    plain.bind(model)
    greedy = tuning.measure(plain, posteriors)
    print(f"{split.name}, {len(posteriors.texts)} utterances, the most probable tokens alone: {_figures(greedy)}\n")
    print(f"WER of {name!r}, one row for each lm_weight, one column for each word_score\n")
    print(" " * 9 + "".join(f"{value:9g}" for value in arguments.word_score))
    points: list[Point] = []
    for lm_weight in arguments.lm_weight:
        row = list(tuning.search(make, posteriors, [lm_weight], arguments.word_score))
        print(f"{lm_weight:9g}" + "".join(f"{p.wer:9.4f}" for p in row), flush=True)
        points += row
    _report(arguments, config, name, points, greedy)
    return 0


def _check_split(config: Config, split: str) -> None:
    if split in config.evaluation_splits():
        return
    if split.startswith(TEST_PREFIX):
        reason = "is kept for the test; weights chosen on it would make its figures worthless"
    else:
        reason = "is not an evaluation split"
    raise ConfigError(f"--split {split}: {reason}. {suggest(split, config.evaluation_splits())}")


def choose_decoder(config: Config, name: str | None) -> str:
    """The decoder to tune: the one asked for, else the only one with a language model.

    Raises:
        ConfigError: there is none or no single one, or it has no weights.
    """
    if name is None:
        found = [key for key, section in config.decoders.items() if section.args.get("lm") is not None]
        if not found:
            raise ConfigError(f"decoders: none has a language model; add one: {EXAMPLE}")
        if len(found) > 1:
            raise ConfigError(f"decoders: several have a language model; choose with --decoder: {', '.join(found)}")
        return found[0]
    if name not in config.decoders:
        raise ConfigError(f"--decoder {name}: the config has no such decoder. {suggest(name, config.decoders)}")
    section = config.decoders[name]
    if not all(key in section.args for key in TUNED):
        raise ConfigError(f"--decoder {name}: {section.type} has no {' and '.join(TUNED)} to search")
    if section.args.get("lm") is None:
        raise ConfigError(f"--decoder {name}: it has no language model; add --set decoders.{name}.args.lm=lm.arpa")
    return name


def _with_weights(section: Component, lm_weight: float, word_score: float) -> Component:
    return section.model_copy(update={"args": {**section.args, "lm_weight": lm_weight, "word_score": word_score}})


def _figures(point: Point) -> str:
    return f"WER {point.wer:.4f}, CER {point.cer:.4f}, {point.seconds:.2f} s"


def _report(arguments: argparse.Namespace, config: Config, name: str, points: list[Point], greedy: Point) -> None:
    """Say which weights are best, and write them, the table and the picture."""
    chosen = tuning.best(points)
    print(f"\nbest: lm_weight {chosen.lm_weight:g}, word_score {chosen.word_score:g}: {_figures(chosen)}")
    for key in TUNED:
        values, best = vars(arguments)[key], getattr(chosen, key)
        if len(values) > 1 and best in (values[-1], *(values[:1] if values[0] != 0 else ())):
            print(f"note: {key} {best:g} is at the edge of what was tried; try values beyond it")
    if note := tuning.verdict(points, greedy, arguments.split):
        print(f"note: {note}")
    folder = Path(arguments.output)
    decoders = {**config.decoders, name: _with_weights(config.decoders[name], chosen.lm_weight, chosen.word_score)}
    fragment = {
        "about": [
            f"python test.py -r {arguments.resume} -c {folder / 'decoders.json'}",
            f"Weights of {name!r} chosen on {arguments.split}: {_figures(chosen)}.",
        ],
        "decoder": name,
        "decoders": as_dict(config.model_copy(update={"decoders": decoders}))["decoders"],
    }
    written: dict[str, Any] = {"decoders.json": fragment, "points.json": [asdict(point) for point in points]}
    try:
        for file, value in written.items():
            (folder / file).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        tuning.draw(points, f"{name!r} on {arguments.split}").savefig(folder / "surface.png")
    except OSError as error:
        raise ConfigError(f"--output {folder}: cannot be written: {error.strerror}") from None
    print(f"{folder / 'surface.png'}\n{fragment['about'][0]}")


if __name__ == "__main__":
    sys.exit(main())

# PYTHON_ARGCOMPLETE_OK
"""Estimate an n-gram language model from text: ``python -m hw_asr.train_lm -c CONFIG --order 3 -o lm.arpa``.

The text is that of files (``--text``), or the transcripts of a config's training split (``-c``).
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import torch

from hw_asr.decoders.scoring.tokens import SPACE, describe_tokens
from hw_asr.language_models.arpa import write_arpa
from hw_asr.language_models.cache import open_ngram
from hw_asr.language_models.kneser_ney import estimate
from hw_asr.language_models.ngram import LN10, NgramModel
from hw_base import trained
from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import ConfigError, DataError
from hw_base.runs import cli
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser
from hw_base.text import BaseTextEncoder
from hw_base.texts.files import read_lines

# lmplz takes most of the memory of a machine unless it is given a limit.
_LMPLZ_MEMORY = "1G"
Split = Callable[[str], list[str]]


def main(argv: "Sequence[str] | None" = None) -> int:
    """The program; the exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _work(arguments), arguments.imports)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "python -m hw_asr.train_lm",
        "Estimate an n-gram language model (interpolated modified Kneser-Ney) and write it as ARPA.",
        ["-c configs/ds2.json --order 3 -o lm.arpa", "--text train.txt --order 3 -o lm.arpa --perplexity val.txt"],
    )
    parser.add_argument("--text", nargs="+", metavar="FILE", help="training text, one sentence a line")
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config whose transcripts are read")
    parser.add_argument("--split", default=TRAIN_SPLIT, help="of the config, never a test split (default: train)")
    parser.add_argument("--order", type=int, default=3, help="n of the longest n-grams (default: 3)")
    parser.add_argument(
        "--level",
        choices=("word", "char", "sentencepiece"),
        default="word",
        help="what is counted: words, characters, or the tokens of the text encoder (default: word)",
    )
    parser.add_argument(
        "--text-encoder",
        metavar="CKPT",
        help="checkpoint whose text encoder normalizes the text (default: the config's)",
    )
    parser.add_argument(
        "--prune",
        nargs="+",
        type=int,
        default=[],
        metavar="COUNT",
        help="for each order the largest count that is left out, for example 0 0 1; the last holds for higher orders",
    )
    parser.add_argument("--lmplz", action="store_true", help="let KenLM's lmplz estimate, which has to be on the PATH")
    parser.add_argument("--perplexity", nargs="+", metavar="FILE", help="texts to report the perplexity of")
    parser.add_argument("-o", "--output", metavar="ARPA", required=True, help="model; read if there is no text")
    cli.add_set(parser)
    cli.add_import(parser)
    return parser


def _work(arguments: argparse.Namespace) -> int:
    if not arguments.text and not arguments.config and not arguments.perplexity:
        raise ConfigError("nothing to do: give -c or --text to estimate a model, --perplexity to use one, or both")
    if arguments.text and arguments.config:
        raise ConfigError("--text: the config's transcripts are read; leave out one of the two")
    if arguments.order < 1:
        raise ConfigError(f"--order: expected 1 or more, found {arguments.order}")
    lines = [read_lines(file) for file in arguments.text or []]
    encoder = trained.load_task(arguments.text_encoder).text_encoder if arguments.text_encoder is not None else None
    if arguments.config:
        experiment = Experiment(config.load(arguments.config, arguments.set), torch.device("cpu"))
        lines = [experiment.training_texts(arguments.split)]
        encoder = encoder or _fitted(experiment, arguments.level)
    split = _splitter(arguments.level, encoder)
    if lines:
        sentences = [units for text in lines for units in _units(text, split)]
        make = _run_lmplz if arguments.lmplz else _estimate
        make(sentences, arguments)
    model = open_ngram(arguments.output)
    if lines:
        report = {"written": arguments.output, "sentences": len(sentences), "units": sum(map(len, sentences))}
        print(json.dumps({**report, "vocabulary": len(model.vocabulary), "megabytes": round(model.nbytes() / 1e6, 1)}))
    for file in arguments.perplexity or []:
        print(json.dumps({"text": file, **perplexity(model, _units(read_lines(file), split))}))
    return 0


def _fitted(experiment: Experiment, level: str) -> BaseTextEncoder:
    """The config's text encoder; where tokens are counted, with the vocabulary that a training would give it."""
    if level != "word":
        experiment.task.fit_vocabulary(experiment.split(TRAIN_SPLIT, evaluation=False), None)
    return experiment.task.text_encoder


def _splitter(level: str, encoder: BaseTextEncoder | None) -> Split:
    """How a line becomes units of the model."""
    if level == "word":
        return str.split if encoder is None else lambda line: encoder.normalize(line).split()
    if encoder is not None:
        names = describe_tokens(encoder).names
        return lambda line: [names[token] for token in encoder.encode(line)]
    if level == "sentencepiece":
        raise ConfigError("--level sentencepiece needs --text-encoder CKPT or -c CONFIG, which have the tokens")
    return lambda line: list(" ".join(line.split()).replace(" ", SPACE))


def _units(lines: Iterable[str], split: Split) -> Iterator[list[str]]:
    """The units of each line that has any."""
    return (units for units in map(split, lines) if units)


def _estimate(sentences: list[list[str]], arguments: argparse.Namespace) -> None:
    arpa, discounts = estimate(sentences, arguments.order, arguments.prune)
    write_arpa(arpa, arguments.output)
    for order, (grams, values) in enumerate(zip(arpa.grams, discounts, strict=True), start=1):
        shown = " ".join(f"{value:.4f}" for value in values)
        print(f"{order}-grams: {len(grams.words)}, discounts {shown}", file=sys.stderr)


def _run_lmplz(sentences: list[list[str]], arguments: argparse.Namespace) -> None:
    program = shutil.which("lmplz")
    if program is None:
        raise ConfigError("--lmplz: there is no lmplz on the PATH; leave the option out to estimate without it")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text"
        text.write_text("".join(" ".join(units) + "\n" for units in sentences), encoding="utf-8")
        command = [program, "-o", str(arguments.order), "-S", _LMPLZ_MEMORY, "-T", folder, "--discount_fallback"]
        command += ["--text", str(text), "--arpa", arguments.output]
        command += ["--prune", *map(str, arguments.prune)] if arguments.prune else []
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DataError(f"lmplz failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")


def perplexity(model: NgramModel, sentences: "Iterator[list[str]] | list[list[str]]") -> dict[str, float]:
    """Perplexity per unit, sentence ends counted.

    Returns:
        ``perplexity`` of all units, ``perplexity_known`` without unknown ones, their number ``unknown``, and ``units``.
    """
    ids, unknown, end = model.word_ids(), model.unknown_id, model.end_id
    total = total_known = 0.0
    units = n_unknown = 0
    for sentence in sentences:
        state = model.start_state
        for word in [*(ids.get(unit, unknown) for unit in sentence), *([end] if end >= 0 else [])]:
            logp, state = model.score_word(state, word)
            total, units = total + logp, units + 1
            if word == unknown:
                n_unknown += 1
            else:
                total_known += logp
    if units == n_unknown:
        raise DataError("perplexity: the model knows no word of the text")
    return {
        "perplexity": 10 ** (-total / LN10 / units),
        "perplexity_known": 10 ** (-total_known / LN10 / (units - n_unknown)),
        "unknown": n_unknown,
        "units": units,
    }


if __name__ == "__main__":
    sys.exit(main())

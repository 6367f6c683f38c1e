# PYTHON_ARGCOMPLETE_OK
"""A vocabulary from training transcripts: ``python -m hw_asr.train_tokenizer -c CONFIG -o FILE``.

Training a model does the same by itself; this is for one vocabulary that several runs share (``model_path``).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from hw_asr.text_encoders.sentencepiece import SentencePieceTextEncoder
from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import ConfigError
from hw_base.runs import cli
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_asr.train_tokenizer",
        "Train the SentencePiece vocabulary of a config on the transcripts of a split and write the model.",
        ["-c configs/tiny/conformer_bpe.json -o tokenizer.model"],
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="JSON or YAML config")
    parser.add_argument("-o", "--output", metavar="FILE", default="tokenizer.model", help="default: tokenizer.model")
    parser.add_argument("--split", default=TRAIN_SPLIT, help="whose transcripts are read (default: train)")
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        return train(arguments.config, arguments.set, Path(arguments.output), arguments.split)

    return cli.run(work, arguments.imports)


def train(path: str, overrides: Sequence[str], output: Path, split: str = TRAIN_SPLIT) -> int:
    """Train, write, and print what came out; the exit code."""
    experiment = Experiment(config.load(path, overrides), torch.device("cpu"))
    encoder = experiment.task.text_encoder
    if not isinstance(encoder, SentencePieceTextEncoder):
        found = type(encoder).__name__
        raise ConfigError(
            f"text_encoder.type: {found} has nothing to train; --set text_encoder=SentencePieceTextEncoder"
        )
    if encoder.model_path is not None:
        raise ConfigError("text_encoder.args.model_path: names a trained model already; leave it out to train one")
    texts = experiment.training_texts(split)
    encoder.fit(texts)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(encoder.model)
    n_characters = sum(len(encoder.normalize(text)) for text in texts)
    n_tokens = sum(len(encoder.encode(text)) for text in texts)
    print(f"{output}: {len(encoder)} tokens with the blank, {n_characters / n_tokens:.2f} characters per token")
    return 0


if __name__ == "__main__":
    sys.exit(main())

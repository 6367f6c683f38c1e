# PYTHON_ARGCOMPLETE_OK
"""Make a checkpoint of this project of a public HiFi-GAN, to fine-tune it with ``init_from``.

``python -m hw_tts.convert_vocoder --generator g_02500000 --discriminators do_02500000 -c CONFIG -o vocoder.pth``
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_base import checkpoint
from hw_base.config import resolve as config
from hw_base.config.schema import Config
from hw_base.errors import CheckpointError, ConfigError
from hw_base.registry import MODELS, TASKS
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_tts.public.hifigan import from_public_discriminators
from hw_tts.vocoders.loading import check_constants, read_public

_MODEL = "HiFiGAN"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_tts.convert_vocoder",
        "Make a checkpoint of this project of a public HiFi-GAN, to fine-tune it with init_from.",
        ["--generator g_02500000 --discriminators do_02500000 -c configs/hifigan.json -o vocoder.pth"],
    )
    parser.add_argument("--generator", metavar="FILE", required=True, help="with its config.json beside it")
    parser.add_argument("--discriminators", metavar="FILE", help="of the same run (default: untrained ones)")
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="that fine-tuning will use")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="the checkpoint, .pth")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        state = convert(config.load(arguments.config), arguments.generator, arguments.discriminators)
        checkpoint.save(Path(arguments.output), state)
        print(f"{arguments.output}: fine-tune it with --set init_from={arguments.output}")
        return 0

    return cli.run(work, arguments.imports)


def convert(target: Config, generator: str | Path, discriminators: str | Path | None = None) -> dict[str, Any]:
    """The state of a checkpoint that has the public weights.

    Args:
        target: whose model is the same.
        generator: public file ``{"generator": weights}``, with its weight norm.
        discriminators: public file ``{"mpd": weights, "msd": weights}``; None leaves them untrained.

    Raises:
        CheckpointError: a file is missing, damaged, or of another model.
        ConfigError: the config is not one of a HiFiGAN, or its spectrograms are others.
    """
    if target.model.type != _MODEL:
        raise ConfigError(f"model.type: a {_MODEL} is needed, found {target.model.type}")
    task = TASKS[target.task](target)
    weights, constants, _ = read_public(generator)
    check_constants(constants, task.features.constants(), generator)
    model: Any = config.build("model", target.model, MODELS, **task.model_arguments())
    checkpoint.load_weights(model.generator, weights, generator)
    if discriminators is not None:
        state = checkpoint.load_untrusted(discriminators)
        if not isinstance(state, dict) or not {"mpd", "msd"} <= state.keys():
            raise CheckpointError(f'{discriminators}: expected {{"mpd": weights, "msd": weights}}')
        checkpoint.load_weights(model.discriminator, from_public_discriminators(state), discriminators)
    return {
        "config": config.as_dict(target),
        "text_encoder": task.text_encoder.state_dict(),
        "task": task.state_dict(),
        "model": model.state_dict(),
        "step": 0,
    }


if __name__ == "__main__":
    sys.exit(main())

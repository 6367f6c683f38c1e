# PYTHON_ARGCOMPLETE_OK
"""What a config's augmentations do to an utterance: ``python -m hw_asr.show_augmentations -c CONFIG [-o DIR]``."""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hw_asr.augmentations import BaseAugmentation
from hw_base.audio import io as audio
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.runs.parser import Parser

Shown = tuple[str, Tensor | None, Tensor]


def show(
    waveform: Tensor,
    augmentations: Sequence[BaseAugmentation],
    features: LogMelSpectrogram,
    folder: Path,
    generator: torch.Generator,
) -> list[Path]:
    """Write an utterance before, after each augmentation alone, and after all of them as in training.

    Each alone is certain to act, whatever its probability; together they act as they were configured.

    Args:
        waveform (Tensor): (S,), at the rate of the features.
        augmentations: of both domains.
        features: waveform to spectrogram.
        folder: is made; files in it are overwritten.
        generator: of everything random.

    Returns:
        list: the audio files in their order, and last the picture of all spectrograms.
    """
    shown: list[Shown] = [("before", waveform, features(waveform))]
    for augmentation in augmentations:
        certain = copy.copy(augmentation)
        certain.p = 1.0
        shown.append((type(augmentation).__name__, *_apply([certain], waveform, features, generator)))
    shown.append(("all", *_apply(augmentations, waveform, features, generator)))
    paths = []
    for i, (name, changed, _) in enumerate(shown):
        if changed is not None:
            paths.append(folder / f"{i:02d}_{name}.wav")
            audio.save(paths[-1], changed, features.sample_rate)
    paths.append(folder / "spectrograms.png")
    _draw(shown, features, paths[-1])
    return paths


def _apply(
    augmentations: Sequence[BaseAugmentation], waveform: Tensor, features: LogMelSpectrogram, generator: torch.Generator
) -> tuple[Tensor | None, Tensor]:
    """Waveform, None if only the spectrogram changed, and spectrogram."""
    changed = waveform
    on_waveform = [a for a in augmentations if a.domain == "waveform"]
    for augmentation in on_waveform:
        changed = augmentation(changed, generator)
    spectrogram = features(changed)
    for augmentation in augmentations:
        if augmentation.domain == "spectrogram":
            spectrogram = augmentation(spectrogram, generator)
    return changed if on_waveform else None, spectrogram


def _draw(shown: Sequence[Shown], features: LogMelSpectrogram, path: Path) -> None:
    """A row for each: left the waveform's own levels, which normalization hides, right what the model gets."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("hw_asr.show_augmentations", "matplotlib") from error
    plain = copy.copy(features)
    plain.normalize = "none"
    rows = [(None if changed is None else plain(changed), spectrogram) for _, changed, spectrogram in shown]
    hop = features.hop_length / features.sample_rate
    end = max(spectrogram.shape[1] for _, spectrogram in rows) * hop
    figure = Figure(figsize=(14, 1.9 * len(rows)), layout="constrained")
    for panels, (name, _, _), row in zip(figure.subplots(len(rows), 2, squeeze=False), shown, rows, strict=True):
        for axes, image, first, title in zip(panels, row, rows[0], ("log-mel", "as the model gets it"), strict=True):
            if image is None or first is None:
                axes.axis("off")
                continue
            low, high = first.min().item(), first.max().item()
            extent = (0.0, image.shape[1] * hop, 0.0, float(features.n_mels))
            axes.imshow(image.numpy(), origin="lower", aspect="auto", vmin=low, vmax=high, extent=extent)
            axes.set(title=f"{name}, {title}", ylabel="mel bin", xlim=(0.0, end))
            axes.set_xlabel("time, s")
    figure.savefig(path, dpi=80)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    from hw_base import registry
    from hw_base.config import resolve as config
    from hw_base.config.schema import TRAIN_SPLIT
    from hw_base.runs import cli
    from hw_base.runs.experiment import Experiment

    parser = Parser(
        "python -m hw_asr.show_augmentations",
        "Write an utterance before and after every augmentation of a config: audio and one picture.",
        ["-c configs/ds2.json -o augmentations"],
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="JSON or YAML config")
    parser.add_argument("-o", "--output", metavar="DIR", default="augmentations", help="default: augmentations")
    parser.add_argument("-n", "--index", type=int, default=0, help="of the training utterance; default: 0")
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        checked = config.load(arguments.config, arguments.set)
        if not checked.augmentations:
            raise ConfigError(f"{arguments.config}: augmentations is empty, there is nothing to show")
        experiment = Experiment(checked, torch.device("cpu"))
        features = experiment.task.features
        split = experiment.split(TRAIN_SPLIT, evaluation=False)
        if not 0 <= arguments.index < len(split):
            raise ConfigError(f"--index {arguments.index}: the training split has {len(split)} utterances")
        augmentations = [
            config.build(f"augmentations.{i}", section, registry.AUGMENTATIONS, sample_rate=features.sample_rate)
            for i, section in enumerate(checked.augmentations)
        ]
        generator = torch.Generator().manual_seed(checked.seed)
        waveform = split.waveform(arguments.index)
        for path in show(waveform, augmentations, features, Path(arguments.output), generator):
            print(path)
        return 0

    return cli.run(work, arguments.imports)


if __name__ == "__main__":
    sys.exit(main())

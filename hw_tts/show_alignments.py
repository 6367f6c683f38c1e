"""Draw alignments over the spectrogram: ``python -m hw_tts.show_alignments -c CONFIG -o DIR``."""

import argparse
import functools
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base.config import resolve as config
from hw_base.config.schema import TRAIN_SPLIT
from hw_base.errors import ConfigError, DataError, MissingPackageError
from hw_base.runs import cli, outputs

log = logging.getLogger(__name__)

# Inches of the picture for each second, and within which limits.
_INCHES_PER_SECOND, _NARROWEST, _WIDEST = 4.5, 6.0, 60.0


def draw(
    path: Path,
    spectrogram: Tensor,
    seconds_per_frame: float,
    phones: Sequence[Sequence[Any]],
    pitch: Tensor | None = None,
    title: str = "",
) -> None:
    """A picture of a spectrogram with the boundaries and names of symbols, and the pitch below.

    Args:
        path: of the PNG file; its folder is made.
        spectrogram (Tensor): log-mel, (F, T).
        seconds_per_frame: hop length over sample rate.
        phones: ``[[symbol, start_s, end_s], ...]``.
        pitch (Tensor | None): F0 in Hz, (T,); 0 is not drawn, and without any voice there is no curve.
        title: shown above.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingPackageError("hw_tts.show_alignments", "matplotlib") from error
    pitch = None if pitch is None or not (pitch > 0).any() else pitch
    F, T = spectrogram.shape
    seconds = T * seconds_per_frame
    width = min(_WIDEST, max(_NARROWEST, 1.0 + _INCHES_PER_SECOND * seconds))
    figure = Figure(figsize=(width, 4.6 if pitch is not None else 3.4), layout="constrained")
    rows = figure.subplots(
        2 if pitch is not None else 1, 1, sharex=True, squeeze=False, height_ratios=[5, 2][: 1 + (pitch is not None)]
    )
    axes = rows[0][0]
    edge = seconds_per_frame / 2  # a frame stands for the time around its center
    axes.imshow(
        spectrogram.numpy(),
        origin="lower",
        aspect="auto",
        extent=(-edge, seconds - edge, 0, F),
        cmap="magma",
        interpolation="nearest",
    )
    axes.set(ylabel="mel bin", xlim=(-edge, seconds - edge))
    axes.set_title(title, loc="left", fontsize=10, pad=30)
    _label(axes, phones)
    if pitch is not None:
        below = rows[1][0]
        times = torch.arange(len(pitch)) * seconds_per_frame
        below.plot(times.numpy(), pitch.masked_fill(pitch <= 0, torch.nan).numpy(), color="tab:blue", linewidth=1.5)
        below.set(ylabel="F0, Hz")
        below.grid(alpha=0.3, axis="y")
        for _, _, end in phones[:-1]:
            below.axvline(end, color="0.75", linewidth=0.6)
    rows[-1][0].set_xlabel("time, s")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def _label(axes: Any, phones: Sequence[Sequence[Any]]) -> None:
    """Boundaries in the picture, names above it in two heights, so that short neighbors can be read."""
    above = axes.get_xaxis_transform()
    for i, (symbol, start, end) in enumerate(phones):
        if i:
            axes.axvline(start, color="white", linewidth=0.8, alpha=0.8)
        shown = symbol.replace(" ", "␣").replace("$", r"\$")
        height = 1.01 if i % 2 == 0 else 1.07
        axes.text((start + end) / 2, height, shown, transform=above, ha="center", va="bottom", fontsize=8)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m hw_tts.show_alignments",
        description="Draw the alignments of a config's training split over the spectrograms.",
        allow_abbrev=False,
    )
    parser.add_argument("-c", "--config", metavar="FILE", required=True, help="JSON or YAML config")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="where <id>.png go")
    parser.add_argument(
        "--limit", type=cli.positive(int), default=5, metavar="N", help="so many utterances; default: 5"
    )
    cli.add_set(parser)
    cli.add_import(parser)
    arguments = parser.parse_args(argv)
    return cli.run(lambda: _show(arguments), arguments.imports)


def _show(arguments: argparse.Namespace) -> int:
    from hw_base.runs.experiment import Experiment
    from hw_tts.data.phones import phones_of
    from hw_tts.tasks.synthesis import SynthesisTask

    experiment = Experiment(config.load(arguments.config, arguments.set), torch.device("cpu"))
    task = experiment.task
    if not isinstance(task, SynthesisTask):
        raise ConfigError(f"{arguments.config}: a config of the task {experiment.config.task!r} has no alignments")
    split = experiment.split(TRAIN_SPLIT, evaluation=False)
    seconds = task.features.hop_length / task.features.sample_rate
    drawn = 0
    for place, record in enumerate(split.records):
        phones = phones_of(record, task.text_encoder)
        if phones is None:
            continue
        facts = task.cache.get(record, functools.partial(split.waveform, place))
        path = Path(arguments.output) / outputs.file_name(record.utterance_id, ".png")
        title = f"{record.utterance_id}  {record.text or ''}"
        draw(path, facts["spectrogram"], seconds, phones, facts.get("pitch"), title)
        print(path)
        drawn += 1
        if drawn == arguments.limit:
            break
    if not drawn:
        raise DataError(f"{arguments.config}: no utterance of the training split has an alignment")
    return 0


if __name__ == "__main__":
    sys.exit(main())

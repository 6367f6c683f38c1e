"""What ``test.py`` leaves of synthesized speech: the audio, a row for each utterance, the figures."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_base import storage
from hw_base.audio import io as audio
from hw_base.errors import ConfigError
from hw_base.metrics import Measured
from hw_base.runs import outputs
from hw_tts.metrics.base import Pair


def row_of(output: Path, split: str, pair: Pair, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Write the audio of one utterance, ``<output>_wavs/<split>/<id>.wav``; its row of the output.

    Args:
        output: file of the rows.
        split: of the data.
        pair: what was synthesized and what was recorded.
        measured: metric -> what it is of this utterance, and how much that counts for in the corpus's figure.

    Raises:
        ConfigError: it cannot be written.
    """
    path = _folder(output) / split / outputs.file_name(pair.utterance_id, ".wav")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.save(path, pair.synthesized, pair.sample_rate)
    except OSError as error:
        raise ConfigError(f"--output {output}: {path} cannot be written: {error.strerror}") from None
    return {
        "id": pair.utterance_id,
        "split": split,
        "text": pair.text,
        "speaker": pair.speaker,
        "audio_path": str(path),
        "seconds": round(len(pair.synthesized) / pair.sample_rate, 4),
        "metrics": {name: round(one.value, 6) for name, one in measured.items()},
        "weights": {name: round(one.weight, 6) for name, one in measured.items()},
    }


def finish(
    arguments: Namespace,
    state: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Mapping[str, float]],
) -> None:
    """Write the output file and ``metrics.json`` beside it, and print the figures; for the main process.

    Args:
        arguments: of ``test.py``.
        state: of the checkpoint.
        rows: of all splits.
        figures: by split.

    Raises:
        ConfigError: a file cannot be written.
    """
    output = Path(arguments.output)
    storage.write_json(output, rows)
    path = outputs.add_metrics(output, {"checkpoint": str(arguments.resume), "step": state.get("step")}, figures)
    for name, values in figures.items():
        _print_figures(name, values)
    print(f"{len(rows)} utterances -> {output}, {_folder(output)}/ and {path}")


def _folder(output: Path) -> Path:
    return output.with_name(f"{output.stem}_wavs")


def _print_figures(split: str, values: Mapping[str, float]) -> None:
    """One line for the whole split, one for each speaker."""
    lines: dict[str, list[str]] = {}
    for key, value in values.items():
        name, _, speaker = key.partition("/")
        lines.setdefault(speaker, []).append(f"{name} {value:.4f}")
    for speaker, parts in lines.items():
        print(f"{split}{', ' + speaker if speaker else ''}: {', '.join(parts)}")
    if not lines:
        print(f"{split}: no metrics")

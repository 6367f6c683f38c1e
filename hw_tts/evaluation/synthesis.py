"""Evaluation of synthesized speech: while a model is trained, and by ``test.py``."""

import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import distributed, storage
from hw_base.audio import io as audio
from hw_base.config.resolve import build
from hw_base.errors import ConfigError
from hw_base.registry import METRICS
from hw_base.runs import outputs
from hw_base.runs.experiment import Experiment
from hw_tts.evaluation.scores import Scores, matched_waveforms, pairs_of, speak_batch, speakers_of, vocoder_for
from hw_tts.metrics.base import Pair
from hw_tts.models.base import SynthesisModel

log = logging.getLogger(__name__)


@torch.inference_mode()
def test(task: Any, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
    """``test.py`` for synthesis: speak the config's test splits, write the audio, measure it.

    Beside the output file, ``<output>_wavs/<split>/<id>.wav`` hold the audio and ``metrics.json`` the figures.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: an output cannot be written.
    """
    config = task.config
    experiment = Experiment(config, device, state, arguments.resume, task)
    model = experiment.model().eval()
    assert isinstance(model, SynthesisModel)
    vocoder = vocoder_for(model, config.trainer.args.get("vocoder"), task.features, device)
    output = Path(arguments.output)
    everything: list[dict[str, Any]] = []
    figures: dict[str, dict[str, float]] = {}
    for name in config.test_splits():
        rows: list[dict[str, Any]] = []
        split = experiment.split(name, evaluation=True)
        experiment.report_unknown(split)
        metrics = {key: build(f"metrics.{key}", m, METRICS) for key, m in config.metrics.items()}
        scores = Scores(metrics, speakers_of(split))
        split.leave_out(task.cache.fill(split))
        for batch in experiment.loader(split):
            batch = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
            waveforms = speak_batch(model, batch, vocoder)
            for pair in pairs_of(batch, waveforms, task.features.sample_rate):
                scores.update(pair)
                rows.append(_row(name, pair, _write_audio(output, name, pair)))
            if scores.wants_matched() and vocoder is not None:
                matched = matched_waveforms(batch | model(**batch), vocoder)
                for pair in pairs_of(batch, matched, task.features.sample_rate, matched=True):
                    scores.update(pair)
        figures[name] = scores.compute()
        everything += outputs.in_order(rows, split)
    if distributed.is_main():
        storage.write_json(output, everything)
        about = {"checkpoint": str(arguments.resume), "step": state.get("step")}
        path = outputs.add_metrics(output, about, figures)
        for name, values in figures.items():
            _print_figures(name, values)
        print(f"{len(everything)} utterances -> {output}, {_folder(output)}/ and {path}")
    return 0


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


def _folder(output: Path) -> Path:
    return output.with_name(f"{output.stem}_wavs")


def _write_audio(output: Path, split: str, pair: Pair) -> str:
    path = _folder(output) / split / outputs.file_name(pair.utterance_id, ".wav")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        audio.save(path, pair.synthesized, pair.sample_rate)
    except OSError as error:
        raise ConfigError(f"--output {output}: {path} cannot be written: {error.strerror}") from None
    return str(path)


def _row(split: str, pair: Pair, path: str) -> dict[str, Any]:
    rate = pair.sample_rate
    return {
        "id": pair.utterance_id,
        "split": split,
        "text": pair.text,
        "speaker": pair.speaker,
        "audio_path": path,
        "seconds": round(len(pair.synthesized) / rate, 4),
        "recorded_seconds": round(len(pair.reference) / rate, 4),
        "durations": pair.durations.tolist() if pair.durations is not None else None,
    }

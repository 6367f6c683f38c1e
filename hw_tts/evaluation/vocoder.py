"""What ``test.py`` does for a vocoder: resynthesize the test splits, write the audio, measure it."""

import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hw_base import distributed
from hw_base.config.resolve import build
from hw_base.metrics import MetricBag
from hw_base.registry import METRICS
from hw_base.runs.experiment import Experiment
from hw_base.runs.outputs import in_order
from hw_base.task import BaseTask
from hw_tts.evaluation.outputs import finish, row_of
from hw_tts.evaluation.scores import vocoder_pairs
from hw_tts.metrics.base import Pair, SynthesisMetric
from hw_tts.vocoders.griffin_lim import GriffinLim
from hw_tts.vocoders.hifigan import HiFiGANVocoder

# The group of figures of Griffin-Lim.
_UNTRAINED = "griffin_lim"


@torch.inference_mode()
def test(task: BaseTask, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
    """Evaluate a checkpoint on the config's test splits.

    Beside the output file, ``<output>_wavs/<split>/<id>.wav`` hold the audio and ``metrics.json`` the figures. Those of
    Griffin-Lim, which a vocoder is trained to surpass, on the same spectrograms are ``<name>/griffin_lim``.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: an output cannot be written.
    """
    config = task.config
    experiment = Experiment(config, device, state, arguments.resume, task)
    features = experiment.task.features
    model: Any = experiment.model()
    vocoder = HiFiGANVocoder(model.generator, features.constants()).to(device)
    untrained = GriffinLim(features).to(device)
    output = Path(arguments.output)
    everything: list[dict[str, Any]] = []
    figures: dict[str, dict[str, float]] = {}
    for name in config.test_splits():
        metrics = {key: build(f"metrics.{key}", m, METRICS) for key, m in config.metrics.items()}
        scores = MetricBag(metrics, ("", _UNTRAINED))
        rows: list[dict[str, Any]] = []
        seconds = voiced = 0.0
        split = experiment.split(name, evaluation=True)
        for batch in experiment.loader(split):
            started = time.perf_counter()
            waveform = vocoder(batch["spectrogram"].to(device), batch["spectrogram_length"]).cpu()
            seconds += time.perf_counter() - started
            plain = untrained(batch["spectrogram"].to(device), batch["spectrogram_length"]).cpu()
            for pair in _prepared(metrics, vocoder_pairs(batch, plain, features.sample_rate)):
                scores.update(pair, groups=(_UNTRAINED,))
            for pair in _prepared(metrics, vocoder_pairs(batch, waveform, features.sample_rate)):
                measured = scores.update_one(pair)
                voiced += len(pair.synthesized) / features.sample_rate
                rows.append(row_of(output, name, pair, measured))
        seconds, voiced = (sum(part) for part in zip(*distributed.gather((seconds, voiced)), strict=True))
        figures[name] = scores.compute() | {"real_time_factor": seconds / max(voiced, 1e-9)}
        everything += in_order(rows, split)
    if distributed.is_main():
        finish(arguments, state, everything, figures)
    return 0


def _prepared(metrics: Mapping[str, SynthesisMetric], pairs: list[Pair]) -> list[Pair]:
    for metric in metrics.values():
        metric.prepare(pairs)
    return pairs

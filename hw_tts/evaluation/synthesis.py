"""Evaluation of synthesized speech: while a model is trained, and by ``test.py``."""

import logging
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import distributed
from hw_base.config.resolve import build
from hw_base.registry import METRICS
from hw_base.runs.experiment import Experiment
from hw_base.runs.outputs import in_order
from hw_tts.evaluation.outputs import finish, row_of
from hw_tts.evaluation.scores import Scores, matched_waveforms, pairs_of, speak_batch, speakers_of, vocoder_for
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
            pairs = pairs_of(batch, waveforms, task.features.sample_rate)
            measured = scores.update(pairs)
            if scores.wants_matched() and vocoder is not None:
                waveforms = matched_waveforms(batch | model(**batch), vocoder)
                matched = scores.update(pairs_of(batch, waveforms, task.features.sample_rate, matched=True))
                for one, more in zip(measured, matched, strict=False):  # a model may give nothing of matched timing
                    one.update(more)
            for pair, one in zip(pairs, measured, strict=True):
                durations = pair.durations.tolist() if pair.durations is not None else None
                recorded = round(len(pair.reference) / pair.sample_rate, 4)
                rows.append(row_of(output, name, pair, one) | {"recorded_seconds": recorded, "durations": durations})
        figures[name] = scores.compute()
        everything += in_order(rows, split)
    if distributed.is_main():
        finish(arguments, state, everything, figures)
    return 0

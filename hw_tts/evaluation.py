"""Listening to a model by measurement: while it is trained, and by ``test.py``."""

import copy
import logging
import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hw_base import audio, distributed, outputs
from hw_base.config import build
from hw_base.dataset import Split
from hw_base.errors import ConfigError
from hw_base.experiment import Experiment
from hw_base.registry import METRICS
from hw_base.schema import Config
from hw_tts.metrics.base import Pair, SynthesisMetric
from hw_tts.synthesizer import waveforms_of
from hw_tts.vocoders import BaseVocoder, load_vocoder

log = logging.getLogger(__name__)

# Figures of single speakers are told for as many at most.
MAX_SPEAKERS = 12


class Scores:
    """Every metric of a config, each with the pairs it is meant for: over all of them, and for each speaker.

    Args:
        metrics: prototypes, by name.
        speakers: names; the figures of one are ``mcd/NAME``. A single one, or too many to look at, are left out.
    """

    def __init__(self, metrics: Mapping[str, SynthesisMetric], speakers: Sequence[str] = ()) -> None:
        shown = speakers if 1 < len(speakers) <= MAX_SPEAKERS else ()
        self._metrics = {(name, speaker): copy.deepcopy(m) for speaker in ("", *shown) for name, m in metrics.items()}

    def wants_matched(self) -> bool:
        """Whether some metric needs synthesis with the recording's own timing."""
        return any(metric.matched_only for metric in self._metrics.values())

    def update(self, pair: Pair) -> None:
        """Add one pair: of matched timing for the metrics that need it, of free timing for all the others."""
        for (_, speaker), metric in self._metrics.items():
            if metric.matched_only == pair.matched and speaker in ("", pair.speaker):
                metric.update(pair)

    def compute(self) -> dict[str, float]:
        """The figures over all processes; starts anew. A metric that no pair is defined for is left out."""
        values = {}
        for (name, speaker), metric in self._metrics.items():
            metric.totals = distributed.sum_over_processes(metric.totals)
            value = metric.compute()
            if not math.isnan(value):
                values[f"{name}/{speaker}" if speaker else name] = value
            metric.reset()
        return values


def speakers_of(*splits: Split) -> list[str]:
    """Whom the recordings of some splits are of, in the order they are met."""
    return list(dict.fromkeys(record.speaker for split in splits for record in split.records if record.speaker))


def pairs_of(batch: Mapping[str, Any], waveforms: list[Tensor], sample_rate: int, matched: bool = False) -> list[Pair]:
    """What was synthesised for a batch beside what was recorded.

    Args:
        batch: of synthesis, with ``waveform``; ``synthesized_durations`` (B, L) are the model's, if any.
        waveforms: one for each utterance.
        sample_rate: of both, in Hz.
        matched: whether the synthesis has the recording's timing.
    """
    pairs = []
    for i, synthesized in enumerate(waveforms):
        n_tokens = int(batch["tokens_length"][i])
        own, predicted = batch.get("durations"), batch.get("synthesized_durations")
        pairs.append(
            Pair(
                reference=batch["waveform"][i, : int(batch["waveform_length"][i])].cpu(),
                synthesized=synthesized,
                sample_rate=sample_rate,
                text=batch["text"][i] or "",
                speaker=batch["speaker"][i],
                utterance_id=batch["utterance_id"][i],
                reference_durations=own[i, :n_tokens].cpu() if own is not None else None,
                durations=predicted[i, :n_tokens].cpu() if predicted is not None else None,
                matched=matched,
            )
        )
    return pairs


def speak_batch(model: Any, batch: dict[str, Any], vocoder: BaseVocoder | None) -> list[Tensor]:
    """Synthesise the texts of a batch with the model's own timing; its durations are put into the batch."""
    output = model.synthesize(
        tokens=batch["tokens"], tokens_length=batch["tokens_length"], speaker_id=batch["speaker_id"]
    )
    batch["synthesized_durations"] = output.get("durations")
    return waveforms_of(output, vocoder)


def vocoder_for(model: Any, path: str | None, features: Any, device: torch.device) -> BaseVocoder | None:
    """The vocoder of an evaluation; none for a model that makes audio itself.

    Raises:
        ConfigError: such a model was given one.
    """
    if not getattr(model, "trains_on_waveform", False):
        return load_vocoder(path, features, device)
    if path is not None:
        raise ConfigError("trainer.args.vocoder: this model makes audio itself and has no use for a vocoder")
    return None


@torch.inference_mode()
def test(config: Config, arguments: Namespace, state: dict[str, Any], device: torch.device) -> int:
    """``test.py`` for synthesis: speak the config's test splits, write the audio, measure it.

    Beside the output file, ``<output>_wavs/<split>/<id>.wav`` hold the audio and ``metrics.json`` the figures.

    Returns:
        Exit code 0.

    Raises:
        ConfigError: an output cannot be written.
    """
    experiment = Experiment(config, device, state)
    model = experiment.model().eval()
    task: Any = experiment.task
    vocoder = vocoder_for(model, config.trainer.args.get("vocoder"), task.features, device)
    output = Path(arguments.output)
    rows: list[dict[str, Any]] = []
    figures: dict[str, dict[str, float]] = {}
    for name in config.test_splits():
        split = experiment.split(name, evaluation=True)
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
    outputs.write_json(output, rows)
    outputs.write_json(output.with_name("metrics.json"), figures)
    for name, values in figures.items():
        _print_figures(name, values)
    print(f"{len(rows)} utterances -> {output}, {_folder(output)}/ and {output.with_name('metrics.json')}")
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


def matched_waveforms(results: Mapping[str, Any], vocoder: BaseVocoder | None) -> list[Tensor]:
    """Audio with the recording's timing, from what the model's training pass gave; empty where it gives none.

    Args:
        results: the batch with the model's outputs; ``spectrogram_refined`` or ``spectrogram_predicted`` (B, F, T) are
            wanted, which models that make audio themselves do not give.
        vocoder: for spectrograms.
    """
    spectrogram = results.get("spectrogram_refined", results.get("spectrogram_predicted"))
    if spectrogram is None:
        return []
    return waveforms_of({"spectrogram": spectrogram, "spectrogram_length": results["spectrogram_length"]}, vocoder)


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

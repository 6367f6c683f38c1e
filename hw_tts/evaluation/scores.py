"""Scores of speech: what an evaluation accumulates over a split."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hw_base.data.split import Split
from hw_base.errors import ConfigError
from hw_base.metrics import Measured, MetricBag
from hw_tts.metrics.base import Pair, SynthesisMetric
from hw_tts.models.base import SynthesisModel
from hw_tts.synthesizer import waveforms_of
from hw_tts.vocoders.loading import BaseVocoder, load_vocoder


def vocoder_pairs(batch: Mapping[str, Any], waveform: Tensor, sample_rate: int) -> list[Pair]:
    """What was voiced beside what was recorded, both of the length that they share.

    Args:
        batch: of vocoding.
        waveform (Tensor): (B, S), what was voiced.
        sample_rate: of both, in Hz.
    """
    pairs = []
    for i, utterance_id in enumerate(batch["utterance_id"]):
        n_samples = min(int(batch["waveform_length"][i]), waveform.shape[1])
        pairs.append(
            Pair(
                reference=batch["waveform"][i, :n_samples].cpu(),
                synthesized=waveform[i, :n_samples].float().clamp(-1.0, 1.0).cpu(),
                sample_rate=sample_rate,
                text=batch["text"][i] or "",
                speaker=batch["speaker"][i],
                utterance_id=utterance_id,
                reference_durations=None,
                durations=None,
                matched=True,
            )
        )
    return pairs


# Figures of single speakers are given for at most so many.
MAX_SPEAKERS = 12


class Scores:
    """Every metric of a config, each with the pairs it is meant for: over all of them, and for each speaker.

    Args:
        metrics: prototypes, by name.
        speakers: names; the figures of one are ``mcd/NAME``. A single one, or too many to look at, are left out.
    """

    def __init__(self, metrics: Mapping[str, SynthesisMetric], speakers: Sequence[str] = ()) -> None:
        shown = speakers if 1 < len(speakers) <= MAX_SPEAKERS else ()
        self._metrics = list(metrics.values())
        self._bag = MetricBag(metrics, ("", *shown))

    def wants_matched(self) -> bool:
        """Whether some metric needs synthesis with the recording's own timing."""
        return self._bag.any(lambda metric: metric.matched_only)

    def update(self, pairs: Sequence[Pair]) -> list[dict[str, Measured]]:
        """Add the pairs of a batch: of matched timing for the metrics that need it, of free timing for all the others.

        Returns:
            list: for each pair, metric -> what it is of this pair alone.
        """
        for metric in self._metrics:
            metric.prepare([pair for pair in pairs if pair.matched == metric.matched_only])
        return [
            self._bag.update_one(
                pair,
                groups=("", pair.speaker) if pair.speaker else ("",),
                wanted=lambda metric, matched=pair.matched: metric.matched_only == matched,  # type: ignore[misc]
            )
            for pair in pairs
        ]

    def compute(self) -> dict[str, float]:
        """The values over all processes; starts anew. A metric that no pair is defined for is left out."""
        return {name: value for name, value in self._bag.compute().items() if not math.isnan(value)}


def speakers_of(*splits: Split) -> list[str]:
    """The speakers of some splits, in order of first occurrence."""
    return list(dict.fromkeys(record.speaker for split in splits for record in split.records if record.speaker))


def pairs_of(batch: Mapping[str, Any], waveforms: list[Tensor], sample_rate: int, matched: bool = False) -> list[Pair]:
    """What was synthesized for a batch beside what was recorded.

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


def speak_batch(model: SynthesisModel, batch: dict[str, Any], vocoder: BaseVocoder | None) -> list[Tensor]:
    """Synthesize the texts of a batch with the model's own timing; its durations are put into the batch."""
    output = model.synthesize(
        tokens=batch["tokens"], tokens_length=batch["tokens_length"], speaker_id=batch["speaker_id"]
    )
    batch["synthesized_durations"] = output.get("durations")
    return waveforms_of(output, vocoder)


def vocoder_for(model: SynthesisModel, path: str | None, features: Any, device: torch.device) -> BaseVocoder | None:
    """The vocoder of an evaluation; none for a model that makes audio itself.

    Raises:
        ConfigError: such a model was given one.
    """
    if not model.trains_on_waveform:
        return load_vocoder(path, features, device)
    if path is not None:
        raise ConfigError("trainer.args.vocoder: this model makes audio itself and needs no vocoder")
    return None


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

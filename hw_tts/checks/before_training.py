"""Examinations of synthesis before training: durations, pitch and energy."""

from collections.abc import Iterator
from typing import Any

import torch

from hw_base.doctor.findings import Finding, listed
from hw_base.training.trainer import BaseTrainer


def examine(trainer: BaseTrainer, batch: dict[str, Any], cheap: bool) -> Iterator[Finding]:
    """Findings on a batch."""
    durations, frames = batch.get("durations"), batch.get("spectrogram_length")
    if durations is not None and frames is not None:
        off = (durations.sum(1) - frames).abs()
        wrong = [name for name, n in zip(batch["utterance_id"], off.tolist(), strict=True) if n]
        if wrong:
            causes = ["the alignment has another hop length or sample rate", "it belongs to other audio"]
            evidence = f"off by up to {int(off.max())} frames: {listed(wrong)}"
            yield Finding("error", "durations do not sum to the frames", evidence, causes, "make the alignments again")
        else:
            yield Finding("ok", "durations sum to the frames")
    pitch = batch.get("pitch")
    if pitch is not None:
        heard = pitch[torch.isfinite(pitch) & (pitch > 0)]
        median = float(heard.median()) if len(heard) else 0.0
        evidence = f"median {median:.4g} Hz"
        if len(heard) and not 50.0 <= median <= 600.0:
            causes = ["F0 is given in logarithms", "the tracker's floor or ceiling is wrong", "another sample rate"]
            yield Finding("error", "pitch is not F0 in Hz", evidence, causes, "look at features.args.pitch*")
        else:
            yield Finding("ok", "pitch is F0 in Hz", evidence)

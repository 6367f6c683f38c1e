"""The batch: what its keys are, and who writes each. One contract for datasets, models, losses and metrics.

A batch is a dict. The item maker of a task writes the items, a collate makes a batch of them, the model's outputs are
merged into it, and losses and metrics are called with all of it as keywords: each names the keys it uses.

Letters: B batch, S samples, T frames, L tokens, F feature bins, V vocabulary. Padding is at the end of the last axis,
and 0. Every padded tensor has its ``<key>_length``, int64, (B,). An utterance without a transcript has no tokens.
A trainer adds ``cpu_lengths``, the lengths by name as they still lie on the CPU: to read them waits for no GPU.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hw_base.errors import DataError


@dataclass(frozen=True)
class Key:
    """A tensor of the batch.

    Attributes:
        shape: letters, one for each axis.
        dtype: of the tensor.
        writer: who puts it there.
        meaning: of its values.
    """

    shape: str
    dtype: torch.dtype
    writer: str
    meaning: str


_ITEMS, _SYNTHESIS, _CTC = "item maker", "item maker of synthesis", "a CTCModel"

TENSORS: Mapping[str, Key] = {
    "waveform": Key("BS", torch.float32, _ITEMS, "audio at the rate of the features, in [-1, 1]"),
    "spectrogram": Key("BFT", torch.float32, _ITEMS, "what `features` gives: log-mel, natural logarithm"),
    "tokens": Key("BL", torch.int64, _ITEMS, "ids of the text encoder, from 1; absent without transcripts"),
    "durations": Key("BL", torch.int64, _SYNTHESIS, "frames of each token; where the alignment is given"),
    "pitch": Key("BT", torch.float32, _SYNTHESIS, "F0 in Hz, without gaps"),
    "energy": Key("BT", torch.float32, _SYNTHESIS, "norm of each frame's magnitudes"),
    "speaker_id": Key("B", torch.int64, _SYNTHESIS, "index of the speaker"),
    "log_probs": Key("BTV", torch.float32, _CTC, "natural logarithm, blank at 0; T is its own, see log_probs_length"),
}

# Python lists with one entry for each utterance.
LISTS: Mapping[str, str] = {
    "utterance_id": "unique within an evaluation split",
    "audio_path": "the file",
    "text": "as it is written, or None",
    "speaker": "name, or empty",
}
# A list of (utterance_id, reason) of what could not be used, of any length.
SKIPPED = "skipped"


def check_batch(batch: Mapping[str, Any]) -> None:
    """Hold a batch against the contract; further keys may be anything.

    Raises:
        DataError: a key of the contract has another type or shape than it says, or lacks its length.
    """
    size = len(batch["utterance_id"])
    for name, key in TENSORS.items():
        value = batch.get(name)
        if value is None:
            continue
        found = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
        shape = f"({', '.join(key.shape)}) {key.dtype}"
        if not isinstance(value, Tensor) or value.dim() != len(key.shape) or value.dtype != key.dtype:
            raise DataError(f"batch[{name!r}]: expected {shape} from {key.writer}, found {found}")
        if len(value) != size:
            raise DataError(f"batch[{name!r}]: expected {size} utterances, found {len(value)}")
        if len(key.shape) > 1:
            _check_length(batch, name, value)
    for name in LISTS:
        if name in batch and len(batch[name]) != size:
            raise DataError(f"batch[{name!r}]: expected {size} entries, found {len(batch[name])}")


def _check_length(batch: Mapping[str, Any], name: str, value: Tensor) -> None:
    length = batch.get(f"{name}_length")
    if not isinstance(length, Tensor) or length.dtype != torch.int64 or length.shape != value.shape[:1]:
        raise DataError(f"batch[{name + '_length'!r}]: expected ({len(value)},) int64 beside batch[{name!r}]")
    if int(length.max()) > value.shape[-1 if name != "log_probs" else 1]:
        raise DataError(f"batch[{name + '_length'!r}]: longer than batch[{name!r}]")

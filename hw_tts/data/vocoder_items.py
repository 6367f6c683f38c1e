"""A record and its waveform -> what a vocoder is trained on or tested with."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hw_base import checkpoint
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.dataset import Record
from hw_base.errors import CheckpointError, ConfigError, DataError

# By so many frames a predicted spectrogram may differ from the recording's: other programs frame the ends otherwise.
TOLERANCE = 2


class VocoderItemMaker:
    """Makes items: a waveform and its log-mel spectrogram, or one random piece of both that belong together.

    Args:
        features: waveform to spectrogram; not normalized.
        segment_frames: length of the pieces; None gives whole utterances.
        mels: folder of predicted spectrograms ``<id>.npy`` or ``<id>.pt``, (F, T) or (T, F), that take the place of the
            recordings' own; made with the recordings' timing.
    """

    def __init__(self, features: LogMelSpectrogram, segment_frames: int | None, mels: str | None = None) -> None:
        self.features, self.segment_frames, self.mels = features, segment_frames, mels
        # Frames at the edge of a cut are made of samples beyond it.
        self._margin = features.n_fft // 2 // features.hop_length + 2

    def __call__(self, record: Record, waveform: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """One item.

        Args:
            record: names the utterance; its text is kept for people.
            waveform (Tensor): (S,), at the rate of the features.
            generator: of the place of the piece.

        Returns:
            dict: ``waveform`` (S,), ``spectrogram`` (F, T), ``utterance_id``, ``audio_path``, ``speaker``, ``text``. Of
            pieces S = T * hop_length; utterances shorter than a piece end in silence.

        Raises:
            DataError: too short for a frame, or its predicted spectrogram is missing or does not fit.
        """
        try:
            waveform, spectrogram = self._pair(record, waveform, generator)
        except DataError as error:
            raise DataError(f"utterance {record.utterance_id!r}: {error}") from None
        return {
            "utterance_id": record.utterance_id,
            "audio_path": record.audio_path,
            "speaker": record.speaker,
            "text": record.text,
            "waveform": waveform,
            "spectrogram": spectrogram,
        }

    def _pair(self, record: Record, waveform: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        if self.segment_frames is None:
            return waveform, self._predicted(record, waveform) if self.mels else self.features(waveform)
        hop, wanted = self.features.hop_length, self.segment_frames
        needed = max(wanted * hop, self.features.min_samples)
        padded = F.pad(waveform, (0, max(0, needed - len(waveform))))
        predicted = self._predicted(record, waveform) if self.mels else None
        n_frames = self.features.frames(len(padded))
        if predicted is not None:
            missing = max(0, wanted - predicted.shape[-1])
            predicted = F.pad(predicted, (0, missing), value=float(np.log(self.features.eps)))
            n_frames = predicted.shape[-1]
        last = min(n_frames, len(padded) // hop) - wanted
        start = int(torch.randint(last + 1, (), generator=generator))
        piece = padded[start * hop : (start + wanted) * hop]
        if predicted is not None:
            return piece, predicted[:, start : start + wanted]
        return piece, self._frames(padded, start, wanted)

    def _frames(self, waveform: Tensor, start: int, n_frames: int) -> Tensor:
        """Some frames of the whole utterance's spectrogram, from the samples that they depend on."""
        hop = self.features.hop_length
        first = max(0, start - self._margin)
        end = min(len(waveform), (start + n_frames + self._margin) * hop)
        spectrogram: Tensor = self.features(waveform[first * hop : end])
        return spectrogram[:, start - first : start - first + n_frames]

    def _predicted(self, record: Record, waveform: Tensor) -> Tensor:
        """The predicted spectrogram of an utterance, with the frames of its recording, give or take a few."""
        spectrogram = read_spectrogram(Path(str(self.mels)), record.utterance_id, self.features.n_mels)
        expected = self.features.frames(len(waveform))
        if abs(spectrogram.shape[-1] - expected) > TOLERANCE:
            raise DataError(
                f"its predicted spectrogram has {spectrogram.shape[-1]} frames, its recording {expected}; predict with "
                "the recording's durations"
            )
        return spectrogram[:, :expected]


def read_spectrogram(folder: Path, utterance_id: str, n_mels: int) -> Tensor:
    """A spectrogram that another program wrote, as (F, T), float32.

    Raises:
        ConfigError: there is no such folder.
        DataError: there is no such file, or it does not hold one spectrogram of `n_mels` bands.
    """
    if not folder.is_dir():
        raise ConfigError(f"trainer.args.mels: no such folder: {folder}")
    array, tensor = (folder / f"{utterance_id}{suffix}" for suffix in (".npy", ".pt"))
    try:
        values = np.load(os.fspath(array), allow_pickle=False) if array.is_file() else checkpoint.load_untrusted(tensor)
        spectrogram = torch.as_tensor(values, dtype=torch.float32)
    except (OSError, ValueError, TypeError, RuntimeError, CheckpointError) as error:
        raise DataError(f"its predicted spectrogram cannot be read: {error}") from None
    if spectrogram.dim() == 3 and len(spectrogram) == 1:
        spectrogram = spectrogram.squeeze(0)
    if spectrogram.dim() == 2 and spectrogram.shape[0] != n_mels:
        spectrogram = spectrogram.T
    if spectrogram.dim() != 2 or spectrogram.shape[0] != n_mels:
        shape = tuple(torch.as_tensor(values).shape)
        raise DataError(f"its predicted spectrogram has the shape {shape}; expected {n_mels} bands")
    return spectrogram.contiguous()

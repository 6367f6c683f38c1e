"""A record and its waveform -> what a recognizer is trained on or tested with."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from hw_asr.augmentations import BaseAugmentation
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.dataset import Record
from hw_base.text import BaseTextEncoder


class ItemMaker:
    """Makes items: augmented audio, log-mel spectrogram, token ids.

    Args:
        features: waveform to spectrogram.
        text_encoder: transcript to tokens.
        augmentations: applied in this order, those of waveforms before the features and those of spectrograms after.
    """

    def __init__(
        self,
        features: LogMelSpectrogram,
        text_encoder: BaseTextEncoder,
        augmentations: Sequence[BaseAugmentation] = (),
    ) -> None:
        self.features, self.text_encoder = features, text_encoder
        self.on_waveform = [a for a in augmentations if a.domain == "waveform"]
        self.on_spectrogram = [a for a in augmentations if a.domain == "spectrogram"]

    def __call__(self, record: Record, waveform: Tensor, generator: torch.Generator) -> dict[str, Any]:
        """One item.

        Args:
            record: its text may be None, then the item has no ``tokens``.
            waveform (Tensor): (S,), at the rate of the features.
            generator: of everything random in this item.

        Returns:
            dict: ``waveform`` (S,), ``spectrogram`` (F, T), ``tokens`` (L,) int64, ``text`` as it is written,
            ``utterance_id``, ``audio_path``, ``speaker``.
        """
        waveform, spectrogram = self.augmented(waveform, generator)
        item: dict[str, Any] = {
            "utterance_id": record.utterance_id,
            "audio_path": record.audio_path,
            "speaker": record.speaker,
            "waveform": waveform,
            "spectrogram": spectrogram,
            "text": None,
        }
        if record.text is not None:
            item["text"] = record.text
            item["tokens"] = torch.tensor(self.text_encoder.encode(record.text), dtype=torch.int64)
        return item

    def augmented(self, waveform: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """An utterance as an item has it.

        Args:
            waveform (Tensor): (S,), at the rate of the features.
            generator: of everything random in this item.

        Returns:
            waveform (Tensor): (S',), after the augmentations of waveforms.
            spectrogram (Tensor): (F, T), of that waveform, after those of spectrograms.
        """
        for augmentation in self.on_waveform:
            waveform = augmentation(waveform, generator)
        spectrogram = self.features(waveform)
        for augmentation in self.on_spectrogram:
            spectrogram = augmentation(spectrogram, generator)
        return waveform, spectrogram

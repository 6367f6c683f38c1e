"""A record and its waveform -> what a recognizer is trained on or tested with."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from hw_asr.augmentations import BaseAugmentation
from hw_asr.augmentations.rate import SpeedPerturbation
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.cache import LazyItemMaker, Reading
from hw_base.data.dataset import Record
from hw_base.text import BaseTextEncoder


class ItemMaker(LazyItemMaker):
    """Makes items: augmented audio, log-mel spectrogram, token ids.

    Where no augmentation of waveforms stands before it, or `SpeedPerturbation` alone, whose speeds are few, the
    spectrogram is one of a few that a split may keep.

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
        self._speeds: list[Fraction] = [] if self.on_waveform else [Fraction(1)]
        if len(self.on_waveform) == 1 and isinstance(self.on_waveform[0], SpeedPerturbation):
            self._speeds = self.on_waveform[0].speeds

    def sizes_kept(self, n_samples: Tensor) -> Tensor:
        """Bytes of the spectrogram at each speed, (K, N)."""
        longest = [-(-n_samples * speed.denominator // speed.numerator) for speed in self._speeds]
        sizes = [4 * self.features.n_mels * self.features.frames(n) for n in longest]
        return torch.stack(sizes) if sizes else super().sizes_kept(n_samples)

    def kept_depends_on(self) -> Any:
        """The features and the speeds."""
        return [self.features.constants(), [str(speed) for speed in self._speeds]]

    def __call__(self, record: Record, read: Reading, generator: torch.Generator) -> dict[str, Any]:
        """One item.

        Args:
            record: its text may be None, then the item has no ``tokens``.
            read: gives the waveform (S,), at the rate of the features.
            generator: of everything random in this item.

        Returns:
            dict: ``waveform`` (S,), ``spectrogram`` (F, T), ``tokens`` (L,) int64, ``text`` as it is written,
            ``utterance_id``, ``audio_path``, ``speaker``.
        """
        waveform, spectrogram = self.augmented(read(), generator, read.kept)
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

    def augmented(
        self,
        waveform: Tensor,
        generator: torch.Generator,
        kept: Callable[[int, Callable[[], Tensor]], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """An utterance as an item has it.

        Args:
            waveform (Tensor): (S,), at the rate of the features.
            generator: of everything random in this item.
            kept: as `Reading.kept`; None computes.

        Returns:
            waveform (Tensor): (S',), after the augmentations of waveforms.
            spectrogram (Tensor): (F, T), of that waveform, after those of spectrograms.
        """
        number = 0
        if self._speeds and self.on_waveform:
            perturbation = self.on_waveform[0]
            assert isinstance(perturbation, SpeedPerturbation)
            speed = perturbation.choose(generator)
            waveform, number = perturbation.at(waveform, speed), self._speeds.index(speed)
        else:
            for augmentation in self.on_waveform:
                waveform = augmentation(waveform, generator)
        if kept is None or not self._speeds:
            spectrogram = self.features(waveform)
        else:
            spectrogram = kept(number, lambda: self.features(waveform))
        for augmentation in self.on_spectrogram:
            spectrogram = augmentation(spectrogram, generator)
        return waveform, spectrogram

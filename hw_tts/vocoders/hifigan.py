"""The HiFi-GAN generator as a vocoder."""

import copy
from typing import Any

import torch
from torch import Tensor

from hw_tts.models.blocks.weight_norm import fold_weight_norm
from hw_tts.models.hifigan.generator import Generator, vocode
from hw_tts.vocoders.base import BaseVocoder


class HiFiGANVocoder(BaseVocoder):
    """A trained generator behind the call of every vocoder.

    Args:
        generator: copied; its weight norm is folded.
        constants: of the spectrograms it was trained on.
    """

    def __init__(self, generator: Generator, constants: dict[str, Any]) -> None:
        super().__init__(constants)
        self.generator = fold_weight_norm(copy.deepcopy(generator)).eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor | None = None) -> Tensor:
        """See `BaseVocoder`."""
        lengths = self._lengths(spectrogram, spectrogram_length).tolist()
        return vocode(self.generator, spectrogram, lengths, self.hop_length)

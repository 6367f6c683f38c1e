"""What every vocoder is: a call that makes waveforms of log-mel spectrograms."""

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn


class BaseVocoder(nn.Module):
    """Makes ``hop_length`` samples of every frame.

    Args:
        constants: of the spectrograms it understands, see `hw_base.audio.mel.LogMelSpectrogram.constants`.

    Attributes:
        constants (dict): as given.
        sample_rate (int): of the waveforms, in Hz.
        hop_length (int): samples of a frame.
    """

    def __init__(self, constants: dict[str, Any]) -> None:
        super().__init__()
        self.constants = dict(constants)
        self.sample_rate: int = constants["sample_rate"]
        self.hop_length: int = constants["hop_length"]

    @abstractmethod
    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor | None = None) -> Tensor:
        """The waveforms of a batch.

        Args:
            spectrogram (Tensor): (B, F, T), natural logarithm.
            spectrogram_length (Tensor): (B,), int64; None means that nothing is padded.

        Returns:
            Tensor: (B, T * hop_length), float32; row b has ``spectrogram_length[b] * hop_length`` samples, then zeros.
        """

    def _lengths(self, spectrogram: Tensor, spectrogram_length: Tensor | None) -> Tensor:
        if spectrogram_length is None:
            return torch.full((len(spectrogram),), spectrogram.shape[-1], device=spectrogram.device)
        return spectrogram_length.to(spectrogram.device)

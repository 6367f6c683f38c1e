"""A waveform for a log-mel spectrogram without any training: linear magnitudes first, then their phases."""

import torch
import torch.nn.functional as F
from torch import Tensor

from hw_base.audio.mel import LogMelSpectrogram
from hw_base.errors import ConfigError
from hw_tts.vocoders.base import BaseVocoder

# Smallest magnitude that the multiplicative updates may shrink a bin to, and smallest divisor.
_TINY = 1e-8


class GriffinLim(BaseVocoder):
    """Mel bins to linear magnitudes by non-negative least squares, then the fast Griffin-Lim algorithm.

    The least squares are solved by multiplicative updates (Lee and Seung 2001, "Algorithms for Non-negative Matrix
    Factorization", equation 4). They begin with the mel energies spread over each filter, so that of the many
    solutions a smooth one is found: a clamped pseudo-inverse misses the mel values by 1 % and ripples. The phases are
    found with momentum (Perraudin, Balazs and Søndergaard 2013, "A Fast Griffin-Lim Algorithm", algorithm 2), from
    zero phases, so that there is nothing random in it.

    An utterance is voiced the same alone and in a padded batch.

    Args:
        features: what made the spectrograms; not normalized.
        n_iterations: of the phases.
        n_mel_iterations: of the least squares.
        momentum: 0 is the algorithm of Griffin and Lim (1984).

    Raises:
        ConfigError: the features are normalized, so the level of the speech is unknown.
    """

    window: Tensor
    filters: Tensor
    spread: Tensor

    def __init__(
        self, features: LogMelSpectrogram, n_iterations: int = 32, n_mel_iterations: int = 20, momentum: float = 0.99
    ) -> None:
        super().__init__(features.constants())
        if features.normalize != "none":
            raise ConfigError(f"GriffinLim: features.normalize must be none, found {features.normalize!r}")
        self.n_iterations, self.n_mel_iterations, self.momentum = n_iterations, n_mel_iterations, momentum
        self.n_fft, self.win_length, self.power = features.n_fft, features.win_length, features.power
        # A frame is centered on its sample, or, with the "same" padding of the features, half a hop later: the
        # difference is a delay that is inaudible, and the frames agree in number.
        self.register_buffer("window", features.window.clone(), persistent=False)
        self.register_buffer("filters", features.filters.clone(), persistent=False)
        spread = features.filters / (features.filters.sum(dim=1, keepdim=True) * features.filters).sum(dim=0).clamp(
            min=_TINY
        )
        self.register_buffer("spread", spread.T.contiguous(), persistent=False)

    def magnitudes(self, spectrogram: Tensor) -> Tensor:
        """Linear magnitudes whose mel bins are those of the spectrogram.

        Args:
            spectrogram (Tensor): (B, F, T), natural logarithm.

        Returns:
            Tensor: (B, n_fft // 2 + 1, T).
        """
        mel = spectrogram.float().exp()
        energy = (self.spread @ mel).clamp(min=_TINY)
        target = self.filters.T @ mel
        for _ in range(self.n_mel_iterations):
            energy = energy * target / (self.filters.T @ (self.filters @ energy)).clamp(min=_TINY)
        return energy.pow(1.0 / self.power)

    @torch.no_grad()
    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor | None = None) -> Tensor:
        """See `BaseVocoder`."""
        with torch.autocast(spectrogram.device.type, enabled=False):
            n_frames = spectrogram.shape[-1]
            # Behind the last frame silent ones, as many as a window reaches, whatever the length of the batch.
            silent = self.n_fft // 2 // self.hop_length + 2
            magnitudes = F.pad(self.magnitudes(spectrogram), (0, silent))
            frame = torch.arange(n_frames + silent, device=spectrogram.device)
            length = self._lengths(spectrogram, spectrogram_length).unsqueeze(1)
            magnitudes = magnitudes * (frame < length).unsqueeze(1)
            sample = torch.arange((n_frames + silent - 1) * self.hop_length, device=spectrogram.device)
            inside = sample < length * self.hop_length
            return self._with_phases(magnitudes, inside)[:, : n_frames * self.hop_length]

    def _with_phases(self, magnitudes: Tensor, inside: Tensor) -> Tensor:
        """(B, n_fft // 2 + 1, T), (B, S) -> (B, S)."""
        spectrum = magnitudes.to(torch.complex64)
        previous = torch.zeros_like(spectrum)
        for i in range(self.n_iterations):
            consistent = self._spectrum(self._waveform(spectrum) * inside)
            ahead = consistent + self.momentum * (consistent - previous) if i else consistent
            previous = consistent
            spectrum = magnitudes * ahead / ahead.abs().clamp(min=torch.finfo(torch.float32).tiny)
        return self._waveform(spectrum) * inside

    def _waveform(self, spectrum: Tensor) -> Tensor:
        return torch.istft(spectrum, self.n_fft, self.hop_length, self.win_length, self.window, center=True)

    def _spectrum(self, waveform: Tensor) -> Tensor:
        return torch.stft(
            waveform, self.n_fft, self.hop_length, self.win_length, self.window, center=True, return_complex=True
        )

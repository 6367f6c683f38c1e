"""From the spectrogram to the posterior's mean and deviation (VITS, section 2.5.1)."""

from torch import Tensor, nn

from hw_tts.models.vits2.layers import masked
from hw_tts.models.vits2.wavenet import WaveNet


class PosteriorEncoder(nn.Module):
    """A WaveNet over the spectrogram; needed for training and for voice conversion.

    Args:
        n_bins: bins of the spectrogram.
        out_channels: channels of the latent.
        hidden_channels: width.
        kernel_size: of the gated convolutions.
        n_layers: layers.
        speaker_channels: width of the speaker embedding; 0 for none.
    """

    def __init__(
        self,
        n_bins: int,
        out_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        n_layers: int = 16,
        speaker_channels: int = 0,
    ) -> None:
        super().__init__()
        self.pre = nn.Conv1d(n_bins, hidden_channels, 1)
        self.enc = WaveNet(hidden_channels, kernel_size, n_layers, speaker_channels)
        self.proj = nn.Conv1d(hidden_channels, 2 * out_channels, 1)

    def forward(self, spectrogram: Tensor, mask: Tensor | None, speaker: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``spectrogram`` (B, F, T), ``mask`` bool (B, 1, T), ``speaker`` (B, G, 1) -> mean, log std (B, C, T)."""
        hidden = self.enc(masked(self.pre(spectrogram), mask), mask, speaker)
        mean, log_scale = masked(self.proj(hidden), mask).chunk(2, dim=1)
        return mean, log_scale

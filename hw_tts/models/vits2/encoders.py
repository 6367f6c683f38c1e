"""From tokens to the prior's mean and deviation (VITS, section 2.5.2; speaker-conditioned as in VITS2, section 2.4)."""

import math

from torch import Tensor, nn

from hw_tts.models.vits2.attentions import Encoder
from hw_tts.models.vits2.layers import WaveNet, masked


class TextEncoder(nn.Module):
    """Token embeddings, a transformer, and the mean and log deviation of the latent for every token.

    Args:
        n_tokens: size of the symbol table, the blank included.
        out_channels: channels of the latent.
        hidden_channels: width.
        filter_channels: inner width of the feed-forward parts.
        n_heads: heads of each attention.
        n_layers: blocks.
        kernel_size: of the feed-forward convolutions.
        dropout: everywhere.
        speaker_channels: width of the speaker embedding; 0 for none.
    """

    def __init__(
        self,
        n_tokens: int,
        out_channels: int,
        hidden_channels: int,
        filter_channels: int,
        n_heads: int,
        n_layers: int,
        kernel_size: int,
        dropout: float,
        speaker_channels: int = 0,
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(hidden_channels)
        self.emb = nn.Embedding(n_tokens, hidden_channels)
        nn.init.normal_(self.emb.weight, 0.0, hidden_channels**-0.5)
        self.encoder = Encoder(
            hidden_channels, filter_channels, n_heads, n_layers, kernel_size, dropout, speaker_channels
        )
        self.proj = nn.Conv1d(hidden_channels, 2 * out_channels, 1)

    def forward(
        self, tokens: Tensor, mask: Tensor | None, speaker: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Encode.

        Args:
            tokens (Tensor): (B, L).
            mask (Tensor): bool, (B, 1, L); None where all is valid.
            speaker (Tensor): (B, G, 1).

        Returns:
            Hidden states (B, D, L), mean (B, C, L), natural log of the deviation (B, C, L).
        """
        hidden = self.encoder((self.emb(tokens) * self.scale).mT, mask, speaker)
        mean, log_scale = masked(self.proj(hidden), mask).chunk(2, dim=1)
        return hidden, mean, log_scale


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

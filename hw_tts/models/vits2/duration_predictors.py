"""How many frames each token lasts: by regression (FastSpeech's predictor), or drawn from a flow (VITS, appendix A)."""

import torch
from torch import Tensor, nn

from hw_tts.models.vits2.layers import ChannelNorm, masked


class DurationPredictor(nn.Module):
    """Two convolutions and a projection to the log of the duration.

    Args:
        in_channels: of the hidden states, which are cut off from its gradient.
        filter_channels: width.
        kernel_size: of the convolutions.
        dropout: after each convolution.
        speaker_channels: width of the speaker embedding; 0 for none.
    """

    def __init__(
        self, in_channels: int, filter_channels: int, kernel_size: int, dropout: float, speaker_channels: int = 0
    ) -> None:
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.conv_1 = nn.Conv1d(in_channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=kernel_size // 2)
        self.norm_2 = ChannelNorm(filter_channels)
        self.proj = nn.Conv1d(filter_channels, 1, 1)
        self.cond = nn.Conv1d(speaker_channels, in_channels, 1) if speaker_channels else None

    def forward(self, hidden: Tensor, mask: Tensor | None, speaker: Tensor | None = None) -> Tensor:
        """``hidden`` (B, D, L), ``mask`` bool (B, 1, L), ``speaker`` (B, G, 1) -> natural log of frames, (B, L)."""
        x = hidden.detach()
        if self.cond is not None and speaker is not None:
            x = x + self.cond(speaker.detach())
        x = self.drop(self.norm_1(torch.relu(self.conv_1(masked(x, mask)))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(masked(x, mask)))))
        return masked(self.proj(masked(x, mask)), mask).squeeze(1).float()

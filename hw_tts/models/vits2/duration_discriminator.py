"""Tells durations of speech from predicted ones (VITS2, section 2.1)."""

import torch
from torch import Tensor, nn

from hw_tts.models.vits2.layers import ChannelNorm, masked


class DurationDiscriminator(nn.Module):
    """Judges each token's duration beside its hidden state (the type ``dur_disc_2`` of the public checkpoints).

    Args:
        channels: of the hidden states.
        filter_channels: width.
        kernel_size: of the convolutions.
        dropout: after each convolution.
    """

    def __init__(self, channels: int, filter_channels: int, kernel_size: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        padding = kernel_size // 2
        self.drop = nn.Dropout(dropout)
        self.conv_1 = nn.Conv1d(channels, filter_channels, kernel_size, padding=padding)
        self.norm_1 = ChannelNorm(filter_channels)
        self.conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.norm_2 = ChannelNorm(filter_channels)
        self.dur_proj = nn.Conv1d(1, filter_channels, 1)
        self.pre_out_conv_1 = nn.Conv1d(2 * filter_channels, filter_channels, kernel_size, padding=padding)
        self.pre_out_norm_1 = ChannelNorm(filter_channels)
        self.pre_out_conv_2 = nn.Conv1d(filter_channels, filter_channels, kernel_size, padding=padding)
        self.pre_out_norm_2 = ChannelNorm(filter_channels)
        self.output_layer = nn.Sequential(nn.Linear(filter_channels, 1), nn.Sigmoid())

    def forward(self, hidden: Tensor, mask: Tensor, *log_durations: Tensor) -> list[Tensor]:
        """Judge several durations of the same tokens.

        Args:
            hidden (Tensor): of the text encoder, (B, D, L).
            mask (Tensor): bool, (B, 1, L).
            log_durations (Tensor): natural log of frames, (B, L) each.

        Returns:
            For each of `log_durations` the probability that it is of real speech, (B, L).
        """
        x = self.drop(self.norm_1(torch.relu(self.conv_1(masked(hidden, mask)))))
        x = self.drop(self.norm_2(torch.relu(self.conv_2(masked(x, mask)))))
        return [self._judge(x, mask, durations.unsqueeze(1)) for durations in log_durations]

    def _judge(self, x: Tensor, mask: Tensor, log_durations: Tensor) -> Tensor:
        x = torch.cat([x, self.dur_proj(log_durations)], dim=1)
        x = self.drop(self.pre_out_norm_1(torch.relu(self.pre_out_conv_1(masked(x, mask)))))
        x = self.drop(self.pre_out_norm_2(torch.relu(self.pre_out_conv_2(masked(x, mask)))))
        probability: Tensor = self.output_layer(masked(x, mask).mT)
        return probability.squeeze(-1)

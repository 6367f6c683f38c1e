"""The gated convolutions of WaveNet, not causal, as WaveGlow and VITS use them."""

import torch
from torch import Tensor, nn

from hw_tts.models.vits2.layers import masked, normed


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip connections, conditioned on the speaker.

    Args:
        channels: width.
        kernel_size: of the gated convolutions.
        n_layers: layers.
        speaker_channels: width of the speaker embedding; 0 for none.
        dropout: of the gated values.
    """

    def __init__(
        self, channels: int, kernel_size: int, n_layers: int, speaker_channels: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.channels = channels
        self.drop = nn.Dropout(dropout)
        self.in_layers = nn.ModuleList(
            normed(nn.Conv1d(channels, 2 * channels, kernel_size, padding=kernel_size // 2)) for _ in range(n_layers)
        )
        # The last layer has nobody to hand a residual to.
        sizes = [2 * channels] * (n_layers - 1) + [channels]
        self.res_skip_layers = nn.ModuleList(normed(nn.Conv1d(channels, size, 1)) for size in sizes)
        self.cond_layer = normed(nn.Conv1d(speaker_channels, 2 * channels * n_layers, 1)) if speaker_channels else None

    def forward(self, x: Tensor, mask: Tensor | None, speaker: Tensor | None = None) -> Tensor:
        """``x`` (B, C, T), ``mask`` bool (B, 1, T), ``speaker`` (B, G, 1) -> (B, C, T), 0 in the padding."""
        n_layers = len(self.in_layers)
        conditions: tuple[Tensor | None, ...] = (None,) * n_layers
        if self.cond_layer is not None and speaker is not None:
            conditions = self.cond_layer(speaker).chunk(n_layers, dim=1)
        skipped: Tensor | None = None
        for conv, last, condition in zip(self.in_layers, self.res_skip_layers, conditions, strict=True):
            gates = conv(x)
            if condition is not None:
                gates = gates + condition
            filtered, gate = gates.chunk(2, dim=1)
            out = last(self.drop(torch.tanh(filtered) * torch.sigmoid(gate)))
            if out.shape[1] > self.channels:
                residual, out = out.chunk(2, dim=1)
                x = masked(x + residual, mask)
            skipped = out if skipped is None else skipped + out
        assert skipped is not None
        return masked(skipped, mask)

"""The normalizing flow between the posterior's and the prior's latent (VITS, section 2.5.2; VITS2, section 2.3)."""

from typing import Literal

import torch
from torch import Tensor, nn

from hw_tts.models.vits2.attentions import Encoder
from hw_tts.models.vits2.layers import WaveNet, masked

FlowKind = Literal["plain", "pre_conv2"]


class Coupling(nn.Module):
    """Shifts one half of the channels by what a network makes of the other half; its Jacobian's determinant is 1.

    Args:
        channels: of the latent, even.
        hidden_channels: width.
        kernel_size: of all convolutions but the first and last.
        n_layers: of the WaveNet.
        speaker_channels: width of the speaker embedding; 0 for none.
        transformer: a transformer block before the WaveNet, added to its input.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        kernel_size: int,
        n_layers: int,
        speaker_channels: int,
        transformer: bool,
    ) -> None:
        super().__init__()
        self.pre = nn.Conv1d(channels // 2, hidden_channels, 1)
        self.pre_transformer = (
            Encoder(hidden_channels, hidden_channels, n_heads=2, n_layers=1, kernel_size=kernel_size, dropout=0.0)
            if transformer
            else None
        )
        self.enc = WaveNet(hidden_channels, kernel_size, n_layers, speaker_channels)
        self.post = nn.Conv1d(hidden_channels, channels // 2, 1)
        nn.init.zeros_(self.post.weight)  # it begins as the identity
        assert self.post.bias is not None
        nn.init.zeros_(self.post.bias)

    def shift(self, half: Tensor, mask: Tensor | None, speaker: Tensor | None) -> Tensor:
        """What is added to the other half, (B, C / 2, T)."""
        hidden = masked(self.pre(half.to(self.pre.weight.dtype)), mask)
        if self.pre_transformer is not None:
            hidden = hidden + self.pre_transformer(hidden, mask)
        return masked(self.post(self.enc(hidden, mask, speaker)), mask)


class Flip(nn.Module):
    """Reverses the channels, so that the next coupling shifts the other half; holds the place it has in state dicts."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T); its own inverse."""
        return x.flip(1)


class Flow(nn.Module):
    """Couplings with flips between them, volume-preserving.

    Args:
        channels: of the latent, even.
        hidden_channels: width.
        kernel_size: of the convolutions.
        n_layers: of each WaveNet.
        n_flows: couplings.
        speaker_channels: width of the speaker embedding; 0 for none.
        kind: ``plain`` as in VITS; ``pre_conv2`` with a transformer block in each coupling.
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        n_layers: int = 4,
        n_flows: int = 4,
        speaker_channels: int = 0,
        kind: FlowKind = "pre_conv2",
    ) -> None:
        super().__init__()
        self.flows = nn.ModuleList()
        for _ in range(n_flows):
            self.flows.append(
                Coupling(channels, hidden_channels, kernel_size, n_layers, speaker_channels, kind == "pre_conv2")
            )
            self.flows.append(Flip())

    @property
    def dtype(self) -> torch.dtype:
        """What the couplings compute in; the latent keeps its own."""
        return next(self.parameters()).dtype

    def forward(self, z: Tensor, mask: Tensor | None, speaker: Tensor | None = None, inverse: bool = False) -> Tensor:
        """The posterior's latent to the prior's, or back.

        Args:
            z (Tensor): (B, C, T), 0 in the padding.
            mask (Tensor): bool, (B, 1, T); None where all is valid.
            speaker (Tensor): (B, G, 1).
            inverse: from the prior's to the posterior's.
        """
        sign = -1 if inverse else 1
        speaker = speaker if speaker is None else speaker.to(self.dtype)
        for step in reversed(self.flows) if inverse else self.flows:
            if isinstance(step, Coupling):
                kept, moved = z.chunk(2, dim=1)
                z = torch.cat([kept, moved + sign * step.shift(kept, mask, speaker).to(z.dtype)], dim=1)
            else:
                z = step(z)
        return z

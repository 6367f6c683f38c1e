"""Networks that refine a predicted spectrogram by what they add to it."""

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.nn.dropout import Dropout
from hw_base.nn.layers import BiRNN, MaskedBatchNorm, length_mask

PostNetName = Literal["tacotron2", "cbhg", "none"]


class PostNet(nn.Module):
    """Five convolutions (Shen et al. 2018, "Natural TTS Synthesis by Conditioning WaveNet", section 2.2).

    Batch statistics are those of valid frames.

    Args:
        n_mels: F.
        channels: between the convolutions.
        kernel_size: odd.
        n_layers: convolutions.
        dropout: after each.
    """

    def __init__(
        self, n_mels: int, channels: int = 512, kernel_size: int = 5, n_layers: int = 5, dropout: float = 0.5
    ) -> None:
        super().__init__()
        widths = [n_mels, *[channels] * (n_layers - 1), n_mels]
        self.convs = nn.ModuleList(
            nn.Conv1d(before, after, kernel_size, padding=kernel_size // 2)
            for before, after in itertools.pairwise(widths)
        )
        self.norms = nn.ModuleList(MaskedBatchNorm(after) for after in widths[1:])
        self.dropout = Dropout(dropout)

    def forward(self, spectrogram: Tensor, length: Tensor) -> Tensor:
        """What is to be added: ``spectrogram`` (B, F, T), 0 in the padding, ``length`` (B,) -> (B, F, T), likewise."""
        x = spectrogram
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x), length)
            x = self.dropout(x if i == len(self.convs) - 1 else x.tanh())
        return x


class CBHG(nn.Module):
    """A bank of convolutions, highway layers and a GRU (Wang et al. 2017, "Tacotron", section 3.1), then a linear one.

    With the sizes of the widespread implementation of FastSpeech: kernels 1 to 8, projections to 256 channels and back.

    Args:
        n_mels: F.
        n_kernels: K, kernels 1 to K in the bank.
        channels: between the two projections.
        n_highways: highway layers.
    """

    def __init__(self, n_mels: int, n_kernels: int = 8, channels: int = 256, n_highways: int = 4) -> None:
        super().__init__()
        self.bank = nn.ModuleList(_ConvNorm(n_mels, n_mels, kernel) for kernel in range(1, n_kernels + 1))
        self.projection1 = _ConvNorm(n_kernels * n_mels, channels, 3)
        self.projection2 = _ConvNorm(channels, n_mels, 3, activation=False)
        self.highways = nn.ModuleList(_Highway(n_mels) for _ in range(n_highways))
        self.rnn = BiRNN(n_mels, n_mels)
        self.out = nn.Linear(self.rnn.n_outputs, n_mels)

    def forward(self, spectrogram: Tensor, length: Tensor) -> Tensor:
        """What is to be added: ``spectrogram`` (B, F, T), 0 in the padding, ``length`` (B,) -> (B, F, T), likewise."""
        padding = ~length_mask(length, spectrogram.shape[-1])[:, None]
        x = torch.cat([conv(spectrogram, length) for conv in self.bank], dim=1)
        before = F.pad(x, (1, 0), value=-torch.inf).narrow(-1, 0, x.shape[-1])
        x = torch.maximum(before, x).masked_fill(padding, 0.0)  # pooling of two frames, of any number of frames
        x = self.projection2(self.projection1(x, length), length) + spectrogram
        x = x.transpose(1, 2)
        for highway in self.highways:
            x = highway(x)
        out: Tensor = self.out(self.rnn(x, length)).transpose(1, 2)
        return out.masked_fill(padding, 0.0)


class _ConvNorm(nn.Module):
    """A convolution without bias, ReLU, batch norm; (B, C, T) -> (B, C', T), 0 in the padding."""

    def __init__(self, n_inputs: int, n_outputs: int, kernel_size: int, activation: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv1d(n_inputs, n_outputs, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = MaskedBatchNorm(n_outputs)
        self.activation = activation

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        y = self.conv(x).narrow(-1, 0, x.shape[-1])  # an even kernel gives one frame more
        out: Tensor = self.norm(F.relu(y) if self.activation else y, length)
        return out


class _Highway(nn.Module):
    """``g * relu(W x) + (1 - g) * x`` with a gate g (Srivastava et al. 2015) that begins nearly closed."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.change = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        nn.init.zeros_(self.change.bias)
        nn.init.constant_(self.gate.bias, -1.0)

    def forward(self, x: Tensor) -> Tensor:
        return torch.lerp(x, F.relu(self.change(x)).to(x.dtype), self.gate(x).sigmoid().to(x.dtype))


def make_postnet(name: PostNetName, n_mels: int) -> "PostNet | CBHG | None":
    """A network called with (B, F, T) and lengths (B,), or None."""
    if name == "none":
        return None
    return PostNet(n_mels) if name == "tacotron2" else CBHG(n_mels)

"""Fewer frames before the encoder: strided convolutions over bins and frames."""

from typing import Literal

import torch
from torch import Tensor, nn

from hw_base.nn.layers import length_mask

SubsamplingName = Literal["conv2d", "separable4", "separable8"]


class Subsampling(nn.Module):
    """Convolutions of 3 x 3 with a stride of 2, rectifiers, and a projection of channels and bins.

    ``conv2d`` has two full ones: a quarter of the frames (Gulati et al. 2020). ``separable4`` and ``separable8`` have
    two or three, all but the first depthwise and then pointwise (Rekesh et al. 2023, "Fast Conformer", section 3.1).
    The cost of a full one grows with the square of the channels.

    Args:
        n_mels: F.
        width: D, of the output.
        kind: see above.
        channels: of every convolution.
        last_channels: of the last one, if others; fewer make it and the projection cheaper.
    """

    def __init__(
        self, n_mels: int, width: int, kind: SubsamplingName, channels: int, last_channels: int | None = None
    ) -> None:
        super().__init__()
        n_convs = 3 if kind == "separable8" else 2
        sizes = [channels] * (n_convs - 1) + [last_channels or channels]
        self.convs = nn.ModuleList([nn.Conv2d(1, channels, 3, 2, 1)])
        for size in sizes[1:]:
            if kind == "conv2d":
                self.convs.append(nn.Conv2d(channels, size, 3, 2, 1))
            else:
                depthwise = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels)
                self.convs.append(nn.Sequential(depthwise, nn.Conv2d(channels, size, 1)))
        bins = n_mels
        for _ in range(n_convs):
            bins = (bins + 1) // 2
        self.projection = nn.Linear(sizes[-1] * bins, width)
        self._initialize()

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Subsample.

        Args:
            x (Tensor): (B, F, T).
            length (Tensor): valid frames, (B,), int64.

        Returns:
            x (Tensor): (B, T', D).
            length (Tensor): (B,), int64.
        """
        x = x[:, None].masked_fill(_padding(x, length), 0.0)
        for conv in self.convs:
            length = (length + 1) // 2
            x = _rectified(conv(x), length)
        return self.projection(x.flatten(1, 2).transpose(1, 2)), length

    def _initialize(self) -> None:
        """Keep the scale of the input (He et al. 2015): PyTorch's own would leave a tenth, beside positions of 0.7."""
        for conv in self.convs:
            layers = [layer for layer in conv.modules() if isinstance(layer, nn.Conv2d)]
            for layer in layers:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if layer is layers[-1] else "linear")
        nn.init.kaiming_normal_(self.projection.weight, nonlinearity="linear")
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames made of ``length`` frames: half, rounded up, for each convolution; (B,) -> (B,)."""
        for _ in self.convs:
            length = (length + 1) // 2
        return length


def _padding(x: Tensor, length: Tensor) -> Tensor:
    return ~length_mask(length, x.shape[-1])[:, None, None]


def _rectified(x: Tensor, length: Tensor) -> Tensor:
    """Rectify ``x`` (B, C, F, T) in place, with zeros in the padding, as the convolution's own padding has.

    Where a rectifier gives 0 its derivative is 0 too, so that autograd need not know of these zeros; pictures of this
    size are not copied for them. On a CPU nothing but the padding is written.
    """
    with torch.no_grad():
        if x.device.type == "cpu" and not torch.compiler.is_exporting():  # a graph has no loop over a batch of any size
            for row, n in zip(x, length.tolist(), strict=True):
                row[..., n:] = 0.0
        else:
            x.masked_fill_(_padding(x, length), 0.0)
    return x.relu_()

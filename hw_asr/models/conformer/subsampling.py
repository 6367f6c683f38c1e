"""Fewer frames before the encoder: strided convolutions over bins and frames."""

from typing import Literal

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
    """

    def __init__(self, n_mels: int, width: int, kind: SubsamplingName, channels: int) -> None:
        super().__init__()
        n_convs = 3 if kind == "separable8" else 2
        self.convs = nn.ModuleList([nn.Conv2d(1, channels, 3, 2, 1)])
        for _ in range(n_convs - 1):
            if kind == "conv2d":
                self.convs.append(nn.Conv2d(channels, channels, 3, 2, 1))
            else:
                depthwise = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels)
                self.convs.append(nn.Sequential(depthwise, nn.Conv2d(channels, channels, 1)))
        bins = n_mels
        for _ in range(n_convs):
            bins = (bins + 1) // 2
        self.projection = nn.Linear(channels * bins, width)
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
        x = _masked(x[:, None], length)
        for conv in self.convs:
            length = (length + 1) // 2
            x = _masked(conv(x).relu(), length)
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


def _masked(x: Tensor, length: Tensor) -> Tensor:
    """``x`` (B, C, F, T) with zeros in the padding, as the convolution's own padding has."""
    return x.masked_fill(~length_mask(length, x.shape[-1])[:, None, None], 0.0)

"""Amodei et al. 2015, "Deep Speech 2: End-to-End Speech Recognition in English and Mandarin" (arXiv 1512.02595)."""

from typing import Annotated, Any, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.models.base import CTCModel
from hw_base.config.schema import Depth, Size
from hw_base.errors import ConfigError
from hw_base.nn.dropout import Dropout
from hw_base.nn.layers import BiRNN, MaskedBatchNorm, length_mask
from hw_base.registry import MODELS

# Activations are clipped at this value (section 3.1).
CLIP = 20.0


class ConvBlock(nn.Module):
    """Convolution over frequency and time, batch norm, clipped rectifier (sections 3.1 and 3.5).

    Args:
        n_inputs: channels of the input.
        n_outputs: channels of the output.
        kernel_size: bins, frames; both odd.
        stride: bins, frames.
    """

    def __init__(self, n_inputs: int, n_outputs: int, kernel_size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)
        # The batch norm's own bias makes another one idle.
        self.conv = nn.Conv2d(n_inputs, n_outputs, kernel_size, stride, padding, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        self.norm = MaskedBatchNorm(n_outputs)

    def forward(self, x: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` (B, C, F, T), 0 in the padding -> (B, C', F', T'), 0 in the padding; and the new lengths (B,)."""
        length = self.output_lengths(length)
        y = self.norm(self.conv(x), length)
        # What is 0 stays 0, so the padding needs no second mask.
        return y.clamp(0.0, CLIP), length

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames that the convolution makes of ``length`` frames (the formula of `torch.nn.Conv2d`)."""
        padding, kernel, stride = int(self.conv.padding[1]), self.conv.kernel_size[1], self.conv.stride[1]
        return (length + 2 * padding - kernel).div(stride, rounding_mode="floor") + 1


@MODELS.register()
class DeepSpeech2(CTCModel):
    """Convolutions, bidirectional recurrent layers with batch norm between, and a softmax over characters.

    After Amodei et al. (2015), "Deep Speech 2: End-to-End Speech Recognition in English and Mandarin". The default
    sizes are those of a small English model; the paper's largest has 3 convolutions with 32, 32 and 96
    channels and 7 layers of 2560.

    Args:
        n_mels: feature bins of the input.
        n_tokens: vocabulary, the blank included.
        conv_channels: output channels of each convolution; as many convolutions as numbers.
        kernel_sizes: (bins, frames) of each convolution, all odd; the paper's (section 3.5) by default. One that is
            taller than its input is cut to the input's height.
        time_stride: of the first convolution; all convolutions have a stride of 2 over the bins.
        n_layers: recurrent layers.
        n_hidden: units of each direction.
        cell: kind of recurrence.
        combine: ``sum`` of the two directions as in the paper, or ``concat``.
        dropout: after every recurrent layer.
    """

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        conv_channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=3)] = (32, 32),
        kernel_sizes: tuple[tuple[Size, Size], ...] = ((41, 11), (21, 11), (21, 11)),
        time_stride: Size = 2,
        n_layers: Depth = 5,
        n_hidden: Size = 512,
        cell: Literal["gru", "lstm"] = "gru",
        combine: Literal["sum", "concat"] = "sum",
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
    ) -> None:
        super().__init__()
        if len(kernel_sizes) < len(conv_channels):
            raise ConfigError(f"kernel_sizes: {len(kernel_sizes)} given for {len(conv_channels)} conv_channels")
        for kernel in kernel_sizes:
            if kernel[0] % 2 == 0 or kernel[1] % 2 == 0:
                raise ConfigError(f"kernel_sizes: {list(kernel)} has an even number; padding needs odd ones")
        self.convs = nn.ModuleList()
        channels, bins = 1, n_mels
        for i, (n_outputs, kernel) in enumerate(zip(conv_channels, kernel_sizes, strict=False)):
            # Rows beyond the input meet little but padding, and oneDNN's gradient of a kernel twice as tall crashes.
            kernel = (min(kernel[0], bins - 1 + bins % 2), kernel[1])
            self.convs.append(ConvBlock(channels, n_outputs, kernel, (2, time_stride if i == 0 else 1)))
            channels, bins = n_outputs, (bins - 1) // 2 + 1
        self.rnns = nn.ModuleList()
        self.norms = nn.ModuleList()
        width = channels * bins
        for _ in range(n_layers):
            rnn = BiRNN(width, n_hidden, cell, combine)
            width = rnn.n_outputs
            self.rnns.append(rnn)
            self.norms.append(MaskedBatchNorm(width))
        self.dropout = Dropout(dropout)
        self.head = nn.Linear(width, n_tokens)
        # Behind a batch norm the usual scale gives logits far from equal; a CTC model should begin undecided.
        nn.init.normal_(self.head.weight, std=0.1 / width**0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Posteriors of a batch.

        Args:
            spectrogram (Tensor): features, (B, F, T); what the padding holds has no influence.
            spectrogram_length (Tensor): valid frames, (B,), int64.
            batch: not used.

        Returns:
            log_probs (Tensor): natural log, float32, (B, T', V).
            log_probs_length (Tensor): (B,), int64.
            encoded (Tensor): what the head sees, (B, T', n_encoded).
        """
        if spectrogram.shape[-1] == 0:
            spectrogram = F.pad(spectrogram, (0, 1))
        length = spectrogram_length
        padding = ~length_mask(length, spectrogram.shape[-1])
        x = spectrogram.masked_fill(padding[:, None], 0.0)[:, None]
        for conv in self.convs:
            x, length = conv(x, length)
        x = x.flatten(1, 2).transpose(1, 2)
        for rnn, norm in zip(self.rnns, self.norms, strict=True):
            x = norm(rnn(x, length).transpose(1, 2), length).transpose(1, 2)
            x = self.dropout(x)
        return {"log_probs": self.head(x).float().log_softmax(-1), "log_probs_length": length, "encoded": x}

    @property
    def n_encoded(self) -> int:
        return self.head.in_features

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames of ``log_probs`` for ``length`` frames of the spectrogram, (B,) -> (B,), int64."""
        for conv in self.convs:
            length = conv.output_lengths(length)  # type: ignore[operator]
        return length

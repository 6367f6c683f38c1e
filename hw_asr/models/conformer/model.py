"""Gulati et al. 2020, "Conformer: Convolution-augmented Transformer for Speech Recognition" (arXiv 2005.08100)."""

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from hw_asr.models.base import CTCModel
from hw_asr.models.conformer.blocks import Block, PositionName
from hw_asr.models.conformer.norms import NormName
from hw_asr.models.conformer.positions import RelativePositions, SinusoidalPositions
from hw_asr.models.conformer.subsampling import Subsampling, SubsamplingName
from hw_base.config.schema import Depth, Size
from hw_base.errors import ConfigError
from hw_base.nn.dropout import Dropout
from hw_base.nn.layers import length_mask
from hw_base.registry import MODELS

Share = Annotated[float, Field(ge=0, lt=1)]


@MODELS.register()
class Conformer(CTCModel):
    """Subsampling, Conformer blocks and a softmax: a CTC model.

    Intermediate posteriors (Lee and Watanabe 2021, "Intermediate Loss Regularization for CTC-based Speech
    Recognition") come from the same head; `InterCTC` is their loss. Self-conditioning (Nozaki and Komatsu 2021,
    "Relaxing the Conditional Independence Assumption of CTC-based ASR") adds each, projected, to what the next block
    sees.

    Args:
        n_mels: feature bins of the input.
        n_tokens: vocabulary, the blank included.
        n_layers: blocks.
        width: of the encoder.
        n_heads: of the attention; a divisor of the width.
        ff_width: within the feed-forwards.
        kernel_size: of the depthwise convolutions, in frames, odd.
        positions: ``relative`` as in the paper, ``absolute`` sinusoids, or ``none``.
        norm: in the convolution modules; ``batch`` as in the paper. Batch statistics are joined over processes.
        subsampling: ``conv2d`` or ``separable4`` for a frame of four, ``separable8`` for one of eight.
        subsampling_channels: of its convolutions.
        subsampling_last_channels: of the last of them, if others; 32 after 64 are cheaper.
        dropout: after the subsampling and in all modules.
        attention_dropout: of attention weights.
        stochastic_depth: probability with which an utterance skips the last block in training; earlier blocks are
            skipped less, in proportion to their depth.
        intermediate_layers: blocks, from 1, after which posteriors are taken.
        self_conditioned: whether those posteriors are fed back.
    """

    def __init__(
        self,
        n_mels: int,
        n_tokens: int,
        n_layers: Depth = 18,
        width: Size = 256,
        n_heads: Size = 4,
        ff_width: Size = 1024,
        kernel_size: Size = 31,
        positions: PositionName = "relative",
        norm: NormName = "batch",
        subsampling: SubsamplingName = "conv2d",
        subsampling_channels: Size = 64,
        subsampling_last_channels: Size | None = None,
        dropout: Share = 0.1,
        attention_dropout: Share = 0.1,
        stochastic_depth: Share = 0.0,
        intermediate_layers: tuple[Size, ...] = (),
        self_conditioned: bool = False,
    ) -> None:
        super().__init__()
        _check(width, n_heads, kernel_size, n_layers, intermediate_layers, self_conditioned)
        self.subsampling = Subsampling(n_mels, width, subsampling, subsampling_channels, subsampling_last_channels)
        self.absolute = SinusoidalPositions(width) if positions == "absolute" else None
        self.relative = RelativePositions(width) if positions == "relative" else None
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                width,
                n_heads,
                ff_width,
                kernel_size,
                positions,
                norm,
                dropout,
                attention_dropout,
                drop_path=stochastic_depth * depth / n_layers,
            )
            for depth in range(1, n_layers + 1)
        )
        self.intermediate_layers = frozenset(intermediate_layers)
        self.head = nn.Linear(width, n_tokens)
        # Behind a layer norm the usual scale gives logits far from equal; a CTC model should begin undecided.
        nn.init.normal_(self.head.weight, std=0.1 / width**0.5)
        nn.init.zeros_(self.head.bias)
        self.condition = nn.Linear(n_tokens, width) if self_conditioned else None

    def forward(self, spectrogram: Tensor, spectrogram_length: Tensor, **batch: Any) -> dict[str, Tensor]:
        """Posteriors of a batch.

        Args:
            spectrogram (Tensor): features, (B, F, T); what the padding holds has no influence.
            spectrogram_length (Tensor): valid frames, (B,), int64.
            batch: not used.

        Returns:
            log_probs (Tensor): natural log, float32, (B, T', V).
            log_probs_length (Tensor): (B,), int64.
            encoded (Tensor): what the head sees, (B, T', D).
            intermediate_log_probs (Tensor): of the intermediate layers in their order, if there are any: float32,
                (K, B, T', V).
        """
        if spectrogram.shape[-1] == 0:
            spectrogram = F.pad(spectrogram, (0, 1))
        x, length = self.subsampling(spectrogram, spectrogram_length)
        x = self.dropout(x if self.absolute is None else self.absolute(x))
        positions = None if self.relative is None else self.relative(x)
        # An utterance of no frames attends to one of its padding: weights of no key at all would be NaN.
        key_mask = length_mask(length.clamp(min=1), x.shape[1])[:, None, None]
        intermediate = []
        for depth, block in enumerate(self.blocks, start=1):
            x = block(x, length, key_mask, positions)
            if depth in self.intermediate_layers:
                intermediate.append(self._log_probs(x))
                if self.condition is not None:
                    x = x + self.condition(intermediate[-1].exp().to(x.dtype))
        outputs = {"log_probs": self._log_probs(x), "log_probs_length": length, "encoded": x}
        if intermediate:
            outputs["intermediate_log_probs"] = torch.stack(intermediate)
        return outputs

    @property
    def n_encoded(self) -> int:
        return self.head.in_features

    def output_lengths(self, length: Tensor) -> Tensor:
        """Frames of ``log_probs`` for ``length`` frames of the spectrogram, (B,) -> (B,), int64."""
        return self.subsampling.output_lengths(length)

    def _log_probs(self, x: Tensor) -> Tensor:
        log_probs: Tensor = self.head(x).float().log_softmax(-1)
        return log_probs


def _check(
    width: int, n_heads: int, kernel_size: int, n_layers: int, intermediate_layers: tuple[int, ...], conditioned: bool
) -> None:
    if width % n_heads:
        raise ConfigError(f"width: {width} cannot be shared among {n_heads} heads; take a multiple of n_heads")
    if kernel_size % 2 == 0:
        raise ConfigError(f"kernel_size: {kernel_size} is even; frames stay in their place for odd ones only")
    outside = [layer for layer in intermediate_layers if layer >= n_layers]
    if outside:
        raise ConfigError(f"intermediate_layers: {outside} are not before the last of {n_layers} layers")
    if len(set(intermediate_layers)) < len(intermediate_layers):
        raise ConfigError(f"intermediate_layers: {list(intermediate_layers)} names a layer twice")
    if conditioned and not intermediate_layers:
        raise ConfigError("self_conditioned: needs intermediate_layers, whose posteriors are fed back")

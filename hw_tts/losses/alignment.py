"""Losses of alignments that are learned."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from hw_base.nn.layers import length_mask
from hw_base.nn.losses import SumAndCount, masked_mean
from hw_base.registry import LOSSES
from hw_tts.models.blocks.aligner import IMPOSSIBLE


@LOSSES.register()
class ForwardSumLoss(nn.Module):
    """How unlikely it is that the frames run through all tokens in order, over all such alignments.

    Badlani et al. 2021, equations (4) and (5), as connectionist temporal classification with the tokens' positions as
    labels. In each frame a blank competes with the tokens, and alignments may pause between tokens; without it
    alignments of speech hardly form. Utterances with fewer frames than tokens do not count.

    Args:
        blank_log_prob: of the blank before normalization; None leaves it out, and the sum is that of the paper.
    """

    def __init__(self, blank_log_prob: Annotated[float, Field(le=0)] | None = -1.0) -> None:
        super().__init__()
        self.blank_log_prob = IMPOSSIBLE if blank_log_prob is None else blank_log_prob

    def forward(
        self,
        alignment_log_probs: Tensor,
        spectrogram_length: Tensor,
        tokens_length: Tensor,
        cpu_lengths: Mapping[str, Tensor] | None = None,
        **batch: Any,
    ) -> SumAndCount:
        """Negative natural logarithm for each token.

        Args:
            alignment_log_probs (Tensor): natural log, (B, T, L).
            spectrogram_length (Tensor): int64, (B,).
            tokens_length (Tensor): int64, (B,).
            cpu_lengths: the same lengths on the CPU, by name: without them they are read back from a GPU.
            batch: not used.
        """
        known = cpu_lengths or {"spectrogram_length": spectrogram_length, "tokens_length": tokens_length}
        B, _, L = alignment_log_probs.shape
        with_blank = F.pad(alignment_log_probs.float(), (1, 0), value=self.blank_log_prob)
        labels = torch.arange(1, L + 1, device=with_blank.device).expand(B, L)
        fits = (tokens_length <= spectrogram_length) & (tokens_length > 0)
        losses = F.ctc_loss(
            with_blank.transpose(0, 1).log_softmax(2),
            labels,
            known["spectrogram_length"],
            known["tokens_length"],
            reduction="none",
            zero_infinity=True,
        )
        return SumAndCount(losses.masked_fill(~fits, 0.0).sum(), (tokens_length * fits).sum().float())


@LOSSES.register()
class BinarizationLoss(nn.Module):
    """How unlikely the frames' distributions find the hard alignment: Badlani et al. 2021, equation (8)."""

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self, alignment_log_probs: Tensor, alignment_hard: Tensor, spectrogram_length: Tensor, **batch: Any
    ) -> SumAndCount:
        """Negative natural logarithm for each frame.

        Args:
            alignment_log_probs (Tensor): natural log, (B, T, L).
            alignment_hard (Tensor): 1 where the frame belongs to the token, (B, T, L).
            spectrogram_length (Tensor): int64, (B,).
            batch: not used.
        """
        frames = -(alignment_log_probs.float() * alignment_hard).sum(2)
        return masked_mean(frames, length_mask(spectrogram_length, frames.shape[1]))

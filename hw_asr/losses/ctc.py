"""CTC, with every batch checked before it reaches `torch.nn.functional.ctc_loss`.

A token id outside the vocabulary makes that function read and write foreign memory, and a target that its frames cannot
hold makes the loss infinite and the gradient NaN. Targets are checked where they lie on the CPU, which is where the
collate leaves them: nothing waits for a GPU.
"""

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base.errors import DataError
from hw_base.nn.layers import length_mask
from hw_base.nn.losses import SumAndCount
from hw_base.registry import LOSSES

log = logging.getLogger(__name__)

# Stands for log 0 in frames that must emit a blank: exp of it is 0, and unlike -inf it gives no NaN in derivatives.
NEVER = -1e4


def frames_needed(tokens: Tensor, tokens_length: Tensor) -> Tensor:
    """Fewest frames that can emit each target: one a token, and a blank between equal neighbors.

    Args:
        tokens (Tensor): (B, L), int64.
        tokens_length (Tensor): (B,), int64.

    Returns:
        Tensor: (B,), int64.
    """
    repeats = (tokens[:, 1:] == tokens[:, :-1]) & length_mask(tokens_length - 1, max(tokens.shape[1] - 1, 0))
    return tokens_length + repeats.sum(dim=1)


def check_targets(
    tokens: Tensor,
    tokens_length: Tensor,
    n_tokens: int,
    utterance_id: Sequence[str],
    frames: Tensor | None = None,
) -> list[str]:
    """Check the targets of a batch; meant for the CPU, before the batch is moved (elsewhere it waits for the device).

    Args:
        tokens (Tensor): (B, L), int64.
        tokens_length (Tensor): (B,), int64.
        n_tokens: V, the blank included.
        utterance_id: B names for messages.
        frames (Tensor): frames of the model's output, (B,), int64; without it the fit is not looked at.

    Returns:
        list: ids of utterances whose target does not fit its frames.

    Raises:
        DataError: a length is impossible or an id is not in ``1 .. V - 1``; the message names the utterance.
    """
    bad_length = (tokens_length < 0) | (tokens_length > tokens.shape[1])
    if bool(bad_length.any()):
        i = int(bad_length.nonzero()[0])
        raise DataError(
            f"utterance {utterance_id[i]!r}: tokens_length is {int(tokens_length[i])} where there are "
            f"{tokens.shape[1]} tokens"
        )
    bad = ((tokens < 1) | (tokens >= n_tokens)) & length_mask(tokens_length, tokens.shape[1])
    if bool(bad.any()):
        i, place = bad.nonzero()[0].tolist()
        raise DataError(
            f"utterance {utterance_id[i]!r}: token id {int(tokens[i, place])} at place {place} is outside "
            f"1..{n_tokens - 1}; the text encoder does not belong to a model of {n_tokens} tokens"
        )
    if frames is None:
        return []
    misfits = frames_needed(tokens, tokens_length) > frames
    return [utterance_id[i] for i in misfits.nonzero().flatten().tolist()]


@LOSSES.register()
class CTCLoss(nn.Module):
    """Connectionist temporal classification (Graves et al. 2006), blank 0.

    ``tokens`` and ``tokens_length`` may stay on the CPU whatever the model's device: then they are checked at every
    call and nothing waits. Where they lie on a GPU, an id outside the vocabulary cannot reach the CUDA kernel: it makes
    the loss NaN, and the target lengths are read back from the device.

    Args:
        normalize_by_length: divide each utterance's loss by its number of tokens (as ``reduction="mean"`` of torch
            does) before the mean over utterances.
        on_misfit: a target that needs more frames than there are is left out of the mean and counted (``skip``), or
            is a `DataError` (``fail``; on a GPU this waits for the device).

    Attributes:
        skipped_count (Tensor): utterances left out since the start, int64, scalar.
    """

    skipped_count: Tensor

    def __init__(self, normalize_by_length: bool = True, on_misfit: Literal["skip", "fail"] = "skip") -> None:
        super().__init__()
        self.normalize_by_length = normalize_by_length
        self.on_misfit = on_misfit
        self.register_buffer("skipped_count", torch.zeros((), dtype=torch.int64), persistent=False)
        self._named: set[str] = set()

    def forward(
        self,
        log_probs: Tensor,
        log_probs_length: Tensor,
        tokens: Tensor,
        tokens_length: Tensor,
        utterance_id: Sequence[str],
        text: Sequence[str | None] | None = None,
        **batch: Any,
    ) -> SumAndCount:
        """Mean over the utterances that have a transcript.

        Args:
            log_probs (Tensor): natural log, normalized, (B, T, V).
            log_probs_length (Tensor): (B,), int64.
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            utterance_id: names for messages.
            text: None marks utterances without a transcript, which are left out.
            batch: not used.

        Raises:
            DataError: see `check_targets` and ``on_misfit``.
        """
        device, n_tokens = log_probs.device, log_probs.shape[-1]
        if tokens.device.type == "cpu":
            check_targets(tokens, tokens_length.cpu(), n_tokens, utterance_id)
        lengths = tokens_length.cpu()
        tokens, tokens_length = (x.to(device, non_blocking=True) for x in (tokens, tokens_length))
        log_probs_length = log_probs_length.to(device, non_blocking=True)
        inside = length_mask(tokens_length, tokens.shape[1])
        foreign = ((tokens < 1) | (tokens >= n_tokens)) & inside
        tokens = tokens.masked_fill(foreign | ~inside, 1)
        fits = frames_needed(tokens, tokens_length) <= log_probs_length
        self._report(fits, utterance_id)
        # What does not fit is left out below; 10^5 tokens of it would fill the memory for the whole batch.
        tokens, lengths = tokens[:, : log_probs.shape[1]], lengths.clamp(max=log_probs.shape[1])
        used = fits
        if text is not None and None in text:
            used = fits & torch.tensor([t is not None for t in text], device=device)
        values = self._values(log_probs, log_probs_length * fits, tokens, lengths)
        if self.normalize_by_length:
            values = values / tokens_length.clamp(min=1)
        total = torch.where(used, values, 0.0).sum()
        return SumAndCount(total.masked_fill(foreign.any(), torch.nan), used.sum().to(total.dtype))

    def _values(self, log_probs: Tensor, frames: Tensor, tokens: Tensor, tokens_length: Tensor) -> Tensor:
        """Negative log-likelihood of each target, (B,); ``tokens_length`` is on the CPU.

        Frames behind the end become certain blanks, which changes no likelihood. So all lengths are T, and the true
        ones need not be known on the CPU.
        """
        log_probs = log_probs.float() if log_probs.dtype != torch.float64 else log_probs
        if log_probs.shape[1] == 0:
            log_probs = F.pad(log_probs, (0, 0, 0, 1))
        blank_only = log_probs.new_full(log_probs.shape[-1:], NEVER)
        blank_only[0].zero_()
        log_probs = torch.where(length_mask(frames, log_probs.shape[1])[..., None], log_probs, blank_only)
        n_frames = torch.full_like(tokens_length, log_probs.shape[1])
        return F.ctc_loss(log_probs.transpose(0, 1), tokens, n_frames, tokens_length, reduction="none")

    def _report(self, fits: Tensor, utterance_id: Sequence[str]) -> None:
        """Count the misfits; name them where that costs no waiting."""
        self.skipped_count += (~fits).sum().to(self.skipped_count.device)
        if fits.device.type != "cpu" and self.on_misfit == "skip":
            return
        for i in (~fits).nonzero().flatten().tolist():
            message = f"utterance {utterance_id[i]!r}: the transcript needs more frames than the model gives"
            if self.on_misfit == "fail":
                raise DataError(f"{message}; drop it, or reduce the model's stride")
            if utterance_id[i] not in self._named:
                self._named.add(utterance_id[i])
                log.warning("%s; left out of the loss", message)

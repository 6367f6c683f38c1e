"""The loss of transducers, over the valid part of each utterance's lattice alone."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hw_asr.losses.ctc import check_targets
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.nn.layers import length_mask
from hw_base.nn.losses import SumAndCount
from hw_base.registry import LOSSES

# Values of the joiner that are in memory at a time: what a processor's cache holds, or what keeps a GPU busy.
_CHUNK = {"cpu": 2**19, "cuda": 2**27}


class _Targets(NamedTuple):
    """What the lattices of a batch are like.

    Attributes:
        tokens: (B, L), int32, on the device.
        frames: T of each utterance, 0 for one that is left out.
        lengths: its tokens.
        scale: factor of its loss, (B,), float32, on the device.
    """

    tokens: Tensor
    frames: list[int]
    lengths: list[int]
    scale: Tensor


@LOSSES.register()
class TransducerLoss(nn.Module):
    """Negative log-probability of the transcript over all alignments (Graves 2012, section 2.4), blank 0.

    The lattice of an utterance is what the joiner makes of every pair of a frame and a number of tokens. It is
    computed, with its gradient, for a few utterances of similar length at a time: memory is that of the largest such
    group and not B x T x (L + 1) x V, and padding costs little. It is float32 whatever autocast says.

    The lengths are read back from a GPU once a call.

    Args:
        normalize_by_length: divide each utterance's loss by its number of tokens, as `CTCLoss` does.
    """

    def __init__(self, normalize_by_length: bool = True) -> None:
        super().__init__()
        self.normalize_by_length = normalize_by_length

    def forward(
        self,
        log_probs_length: Tensor,
        tokens: Tensor,
        tokens_length: Tensor,
        utterance_id: Sequence[str],
        text: Sequence[str | None] | None = None,
        encoder_states: Tensor | None = None,
        predictor_states: Tensor | None = None,
        joiner_weight: Tensor | None = None,
        joiner_bias: Tensor | None = None,
        **batch: Any,
    ) -> SumAndCount:
        """Mean over the utterances that have a transcript and a frame.

        Args:
            log_probs_length (Tensor): frames, (B,), int64.
            tokens (Tensor): (B, L), int64.
            tokens_length (Tensor): (B,), int64.
            utterance_id: names for messages.
            text: None marks utterances without a transcript, which are left out.
            encoder_states, predictor_states (Tensor): (B, T, J) and (B, L + 1, J), see `Transducer`.
            joiner_weight, joiner_bias (Tensor): (V, J) and (V,).
            batch: not used.

        Raises:
            ConfigError: the model is no transducer.
            DataError: see `check_targets`.
        """
        if encoder_states is None or predictor_states is None or joiner_weight is None or joiner_bias is None:
            raise ConfigError("TransducerLoss: the model is no Transducer; give model.type Transducer")
        device = encoder_states.device
        tokens, tokens_length = tokens.cpu(), tokens_length.cpu()
        check_targets(tokens, tokens_length, len(joiner_bias), utterance_id)
        tokens = tokens.masked_fill(~length_mask(tokens_length, tokens.shape[1]), 0)
        used = log_probs_length.cpu() > 0
        if text is not None:
            used &= torch.tensor([one is not None for one in text])
        scale = used.float()
        if self.normalize_by_length:
            scale = scale / tokens_length.clamp(min=1)
        targets = _Targets(
            tokens.int().to(device, non_blocking=True),
            (log_probs_length.cpu() * used).tolist(),
            tokens_length.tolist(),
            scale.to(device, non_blocking=True),
        )
        learning = torch.is_grad_enabled()
        with torch.autocast(device.type, enabled=False):
            parts = (part.float() for part in (encoder_states, predictor_states, joiner_weight, joiner_bias))
            total: Tensor = _Lattices.apply(*parts, targets, learning)  # type: ignore[no-untyped-call]
        return SumAndCount(total, used.sum().to(device, total.dtype, non_blocking=True))


class _Lattices(torch.autograd.Function):
    """Sum of the scaled losses; the gradient is computed with it, so that one group's lattices are in memory."""

    @staticmethod
    def forward(
        ctx: Any,
        encoder_states: Tensor,
        predictor_states: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: _Targets,
        learning: bool,
    ) -> Tensor:
        given = (encoder_states, predictor_states, weight, bias)
        total = encoder_states.new_zeros(())
        gradients = [torch.zeros_like(one) for one in given] if learning else []
        for rows in _groups(targets, max(weight.shape), encoder_states.device.type):
            n_frames, n_states = (max(x[i] for i in rows) for x in (targets.frames, targets.lengths))
            n_states += 1
            here = [encoder_states[rows, :n_frames], predictor_states[rows, :n_states], weight, bias]
            with torch.enable_grad():
                here = [part.detach().requires_grad_(learning) for part in here]
                loss = (_costs(here, targets, rows) * targets.scale[rows]).sum()
            total += loss.detach()
            if learning:
                found = torch.autograd.grad(loss, here)
                gradients[0][rows, :n_frames] = found[0]
                gradients[1][rows, :n_states] = found[1]
                gradients[2] += found[2]
                gradients[3] += found[3]
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return (*(one * gradients[0] for one in ctx.saved_tensors), None, None)


def _groups(targets: _Targets, width: int, device: str) -> Iterator[list[int]]:
    """Utterances by length, as many at a time as their padded lattices fit in a chunk; those without frames not."""
    longest_first = sorted((i for i, n in enumerate(targets.frames) if n), key=lambda i: (targets.frames[i], i))[::-1]
    group: list[int] = []
    n_frames = n_states = 0
    for i in longest_first:
        cells = (max(n_frames, targets.frames[i]), max(n_states, targets.lengths[i] + 1))
        if group and (len(group) + 1) * cells[0] * cells[1] * width > _CHUNK.get(device, 2**22):
            yield group
            group, cells = [], (targets.frames[i], targets.lengths[i] + 1)
        group.append(i)
        n_frames, n_states = cells
    if group:
        yield group


def _costs(parts: list[Tensor], targets: _Targets, rows: list[int]) -> Tensor:
    """Negative log-probability of each transcript of a group, (N,)."""
    try:
        from torchaudio.functional import rnnt_loss
    except ImportError as error:
        raise MissingPackageError("TransducerLoss", "torchaudio") from error
    encoder, predictor, weight, bias = parts
    logits = F.linear(torch.tanh(encoder[:, :, None] + predictor[:, None]), weight, bias)
    frames, lengths = (
        torch.tensor([x[i] for i in rows], dtype=torch.int32, device=encoder.device)
        for x in (targets.frames, targets.lengths)
    )
    tokens = targets.tokens[rows, : predictor.shape[1] - 1].contiguous()
    costs: Tensor = rnnt_loss(logits, tokens, frames, lengths, blank=0, reduction="none")
    return costs

"""Layers whose output for an utterance does not depend on how much padding stands behind it, and positions."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_base import distributed
from hw_base.nn.gru import computes, gru


def length_mask(length: Tensor, n_frames: int) -> Tensor:
    """Mask of valid frames.

    Args:
        length (Tensor): valid frames, (B,), int64.
        n_frames: T, of the padded batch.

    Returns:
        Tensor: bool, (B, T), true at ``t < length``.
    """
    return torch.arange(n_frames, device=length.device) < length[:, None]


def sinusoids(positions: Tensor, width: int) -> Tensor:
    """Sines and cosines of wavelengths from 2 pi to 10000 * 2 pi (Vaswani et al. 2017, section 3.5).

    Args:
        positions (Tensor): (N,), of any sign.
        width: D; an odd one has one sine more than cosines.

    Returns:
        Tensor: ``sin(p / 10000 ** (2 i / D))`` at 2 i and the cosine at 2 i + 1, (N, D), float32.
    """
    even = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32)
    angles = positions.to(torch.float32)[:, None] * torch.exp(even * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class MaskedBatchNorm(nn.Module):
    """Batch normalization with statistics over valid frames alone, of all processes together.

    The "sequence-wise normalization" of Amodei et al. 2015 (arXiv 1512.02595), section 3.2. Names in the state are
    those of `torch.nn.BatchNorm1d`, and so are the numbers where nothing is padded. In training every process must
    call it.

    Args:
        n_features: C.
        eps: added to the variance.
        momentum: fraction of a batch in the running statistics.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, n_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))
        self.register_buffer("num_batches_tracked", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Normalize.

        Args:
            x (Tensor): (B, C, T) or (B, C, F, T); what the padding holds has no influence.
            length (Tensor): valid frames, (B,), int64.

        Returns:
            Tensor: of the shape and dtype of ``x``, 0 in the padding.
        """
        mask = length_mask(length, x.shape[-1]).view(x.shape[0], *[1] * (x.dim() - 2), -1)
        if self.training:
            if x.device.type == "cpu" and distributed.world_size() == 1 and (y := self._by_torch(x, mask)) is not None:
                return y
            mean, variance, count = self._statistics(x.detach(), mask)
            self._track(mean, variance, count)
            scale = (variance + self.eps).rsqrt()
            return _Normalize.apply(x, mask, self.weight, self.bias, mean, scale, count)  # type: ignore[no-untyped-call, no-any-return]
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        y = torch.addcmul(_column(shift, x), _work_copy(x), _column(scale, x))
        return y.masked_fill(~mask, 0.0).to(x.dtype)

    def _by_torch(self, x: Tensor, mask: Tensor) -> Tensor | None:
        """What torch's own makes of the valid frames alone, five times as fast; nothing where it does not apply.

        Valid frames are collected only where each is one piece of memory, channels last.
        """
        rows, valid = x.movedim(1, -1), mask.expand(len(x), 1, *x.shape[2:]).flatten()
        whole = bool(valid.all())
        if int(valid.sum()) < 2 or not (whole or rows.is_contiguous()):
            return None
        self.num_batches_tracked += 1
        # torch keeps the running statistics for the backward pass and refuses them once somebody has written to them.
        mean, variance = self.running_mean.clone(), self.running_var.clone()
        state = (mean, variance, self.weight, self.bias, True, self.momentum, self.eps)
        if not rows.is_contiguous():
            y = F.batch_norm(x, *state)
        else:
            flat = rows.flatten(0, -2)
            if whole:
                y = F.batch_norm(flat, *state)
            else:
                index = valid.nonzero()[:, 0]
                y = torch.zeros_like(flat).index_copy(0, index, F.batch_norm(flat.index_select(0, index), *state))
            y = y.view(rows.shape).movedim(-1, 1)
        self.running_mean.copy_(mean)
        self.running_var.copy_(variance)
        return y

    def _statistics(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and biased variance of each channel, and over how many numbers they were taken."""
        x = _work_copy(x).masked_fill(~mask, 0.0)
        axes = _other_axes(x)
        count = mask.sum(dtype=torch.float64) * (x[0, 0].numel() // max(x.shape[-1], 1))
        mean = x.sum(axes).double() / count.clamp(min=1)
        centered = (x - _column(mean.to(x.dtype), x)).masked_fill_(~mask, 0.0)
        # Sums of squares about zero cancel badly in single precision; joined in double precision they do not.
        square_sum = centered.square_().sum(axes).double() + count * mean.square()
        sums = distributed.sum_over_processes(torch.cat([count[None], count * mean, square_sum]))
        count, total, square_sum = sums[0].clamp(min=1), *sums[1:].chunk(2)
        mean = total / count
        variance = (square_sum / count - mean.square()).clamp(min=0)
        return mean.to(x.dtype), variance.to(x.dtype), sums[0].to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        momentum = self.momentum * (count > 0)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum.to(self.running_mean.dtype))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum.to(self.running_var.dtype))
        self.num_batches_tracked += 1

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}, momentum={self.momentum}"


class _Normalize(torch.autograd.Function):
    """``(x - mean) * scale * weight + bias`` where mean and scale are functions of ``x`` (of every process).

    The derivative is written out because it needs two sums over the batch only, the same two that processes exchange.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, scale: Tensor, count: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, mask, weight, mean, scale, count)
        gain = scale * weight
        y = torch.addcmul(_column(bias - mean * gain, x), _work_copy(x), _column(gain, x))
        return y.masked_fill_(~mask, 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight, mean, scale, count = ctx.saved_tensors
        dy = _work_copy(gradients[0]).masked_fill(~mask, 0.0)
        normal = torch.addcmul(_column(-mean * scale, x), _work_copy(x), _column(scale, x)).masked_fill_(~mask, 0.0)
        axes = _other_axes(x)
        bias_grad, weight_grad = dy.sum(axes), (dy * normal).sum(axes)
        sums = distributed.sum_over_processes(torch.cat([bias_grad, weight_grad])) / count.clamp(min=1)
        mean_dy, mean_dy_normal = sums.chunk(2)
        normal.mul_(_column(-mean_dy_normal, x)).add_(dy).sub_(_column(mean_dy, x)).mul_(_column(weight * scale, x))
        dx = normal.masked_fill_(~mask, 0.0).to(x.dtype)
        return dx, None, weight_grad, bias_grad, None, None, None


def _work_copy(x: Tensor) -> Tensor:
    """At least single precision: half precision cannot hold the sums."""
    return x if x.dtype == torch.float64 else x.float()


def _other_axes(x: Tensor) -> list[int]:
    return [0, *range(2, x.dim())]


def _column(values: Tensor, like: Tensor) -> Tensor:
    """(C,) -> (C, 1, ...), to be broadcast over (B, C, ...)."""
    return values.view(-1, *[1] * (like.dim() - 2))


class BiRNN(nn.Module):
    """One bidirectional recurrent layer over padded batches.

    The backward direction runs over utterances that are reversed inside their own lengths, so both directions are plain
    dense recurrences: the numbers of a packed `torch.nn.GRU`, without packing's many small matrix products and without
    reading the lengths back from a GPU. A GRU on a CPU runs as `hw_base.nn.gru`.

    Args:
        n_inputs: width of the input.
        n_hidden: H, of each direction.
        cell: kind of recurrence.
        combine: ``sum`` adds the two directions (Amodei et al. 2015, section 3.1), ``concat`` puts them side by side.

    Attributes:
        n_outputs (int): H, or 2 H for ``concat``.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: int,
        cell: Literal["gru", "lstm"] = "gru",
        combine: Literal["sum", "concat"] = "concat",
    ) -> None:
        super().__init__()
        kind = nn.GRU if cell == "gru" else nn.LSTM
        self.forward_rnn = kind(n_inputs, n_hidden, batch_first=True)
        self.backward_rnn = kind(n_inputs, n_hidden, batch_first=True)
        self.combine = combine
        self.n_outputs = n_hidden if combine == "sum" else 2 * n_hidden

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Run both directions.

        Args:
            x (Tensor): (B, T, n_inputs).
            length (Tensor): valid frames, (B,), int64.

        Returns:
            Tensor: (B, T, n_outputs), 0 in the padding.
        """
        n_batch, n_frames = x.shape[:2]
        frames = torch.arange(n_frames, device=x.device)
        last = length.to(x.device)[:, None] - 1
        mask = frames <= last
        mirror = torch.where(mask, last - frames, frames)
        first = torch.arange(n_batch, device=x.device)[:, None] * n_frames
        if computes(self.forward_rnn, x):
            x = x.contiguous()
            ahead, back = (
                _time_first(rnn, x, (first + order).t().flatten(), (order * n_batch + first // n_frames).flatten())
                for rnn, order in ((self.forward_rnn, frames.expand_as(mirror)), (self.backward_rnn, mirror))
            )
        else:
            index = (first + mirror).flatten()
            ahead = self.forward_rnn(x)[0]
            back = _reordered(self.backward_rnn(_reordered(x, index, index))[0], index, index)
        y = ahead + back if self.combine == "sum" else torch.cat([ahead, back], dim=-1)
        return y.masked_fill(~mask[..., None], 0.0)


def _time_first(rnn: nn.GRU | nn.LSTM, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """One direction: ``x`` (B, T, D) in the order (T, B) of ``order``, (T B,); and back by ``inverse``."""
    turned = _reordered(x, order, inverse).view(x.shape[1], x.shape[0], -1)
    y = _reordered(gru(rnn, turned), inverse, order)  # type: ignore[arg-type]
    return y.view(*x.shape[:2], -1)


def _reordered(x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
    """Frames of a batch (..., D) in another order of its (B T) rows, in the shape of ``x``."""
    return _Reorder.apply(x, index, inverse)  # type: ignore[no-untyped-call, no-any-return]


class _Reorder(torch.autograd.Function):
    """Rows in another order, so that the derivative is a selection too, by the inverse order.

    The derivative of `torch.index_select` would be a scattered sum: slower, and without a fixed order on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.flatten(0, 1).index_select(0, index).view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return gradients[0].flatten(0, 1).index_select(0, inverse).view_as(gradients[0]), None, None

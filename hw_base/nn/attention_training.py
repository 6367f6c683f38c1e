"""Self-attention as it is trained on a CPU: scores, softmax and dropout in chunks of queries that stay in the cache."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from hw_base.nn.dropout import masked, random_mask

# Queries of all utterances and heads at a time. Few stay in the cache, and waste less of their products with offsets: n
# queries need n + T - 1 of these. Many make large products of matrices, which are quick.
CHUNK = 100


def relative_shift(scores: Tensor) -> Tensor:
    """From scores of offsets to scores of keys (Dai et al. 2019, appendix B), without a copy.

    Args:
        scores (Tensor): of n following queries for all offsets from the last one's to the first key to the first one's
            to the last key, contiguous, (B, H, n, n + T - 1).

    Returns:
        Tensor: ``out[..., i, j] = scores[..., i, n - 1 - (i - j)]``, (B, H, n, T).
    """
    n_batch, n_heads, n_frames, n_offsets = scores.shape
    n_keys = n_offsets - n_frames + 1
    if torch.compiler.is_exporting():  # other programs have no strides: read in rows one longer, and cut the first
        rows = F.pad(scores, (1, 0)).view(n_batch, n_heads, n_offsets + 1, n_frames)
        return rows[:, :, 1:].reshape(n_batch, n_heads, n_frames, n_offsets)[..., :n_keys]
    # A row further down starts one offset earlier: its step in memory is one shorter than a row.
    steps = (n_heads * n_frames * n_offsets, n_frames * n_offsets, max(n_offsets - 1, 1), 1)
    return scores.as_strided((n_batch, n_heads, n_frames, n_keys), steps, scores.storage_offset() + n_frames - 1)


def attend(
    projected: Tensor,
    key_mask: Tensor,
    dropout: float,
    offsets: Tensor | None = None,
    biases: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Attention with dropout of its weights, plain or relative.

    Plain scores are ``q_i k_j``, relative ones (Dai et al. 2019, "Transformer-XL", section 3.3)
    ``(q_i + u) k_j + (q_i + v) r_(i - j)``, both divided by the root of the width of a head.

    Args:
        projected (Tensor): queries, keys and values, (B, T, 3, H, d).
        key_mask (Tensor): keys that may be attended to, at least one for each utterance, bool, (B, 1, 1, T).
        dropout: of attention weights, below 1.
        offsets (Tensor): r of the offsets T - 1, ..., -(T - 1), (H, d, 2 T - 1), for relative scores only.
        biases: u and v, each (H, 1, d), for relative scores only.

    Returns:
        Tensor: (B, T, H * d).
    """
    casts = (None if one is None else one.to(projected.dtype) for one in (*(biases or (None, None)), offsets))
    padding = None if bool(key_mask.all()) else ~key_mask[:, 0]
    out: Tensor = _Attend.apply(projected, *casts, padding, dropout)  # type: ignore[no-untyped-call]
    return out.flatten(2)


class _Attend(torch.autograd.Function):
    """Heads stand before utterances, so that each head has one product with the offsets for the whole batch."""

    @staticmethod
    def forward(
        ctx: Any,
        projected: Tensor,
        content_bias: Tensor | None,
        position_bias: Tensor | None,
        offsets: Tensor | None,
        padding: Tensor | None,
        dropout: float,
    ) -> Tensor:
        n_batch = len(projected)
        query, key, value = projected.permute(2, 3, 0, 1, 4)
        key, value = (one.contiguous().flatten(0, 1) for one in (key, value))
        by_content = _scaled(query, content_bias)
        by_position = None if offsets is None else _scaled(query, position_bias)
        y, saved = torch.empty_like(by_content), []
        for rows, columns in _chunks(projected.shape[1]):
            asked = by_content[:, :, rows].flatten(0, 1)
            if by_position is None or offsets is None:
                scores = asked @ key.mT
            else:
                by_offset = by_position[:, :, rows].flatten(1, 2) @ offsets[..., columns]
                bias = relative_shift(by_offset.view(-1, n_batch, asked.shape[1], by_offset.shape[-1])).flatten(0, 1)
                scores = bias.baddbmm_(asked, key.mT)
            scores = scores.view(-1, n_batch, *scores.shape[1:])
            if padding is not None:
                scores.masked_fill_(padding, -torch.inf)
            weights = scores.softmax(-1)
            mask = random_mask(weights, dropout) if dropout > 0.0 else (None, None)
            y[:, :, rows] = (_dropped(weights, *mask).flatten(0, 1) @ value).view_as(y[:, :, rows])
            saved += [weights, *mask]
        ctx.save_for_backward(by_content, by_position, key, value, offsets, *saved)
        return y.permute(1, 2, 0, 3)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_content, by_position, key, value, offsets, *saved = ctx.saved_tensors
        n_batch, n_frames, size = by_content.shape[1:]
        dy = gradients[0].permute(2, 0, 1, 3).contiguous()
        # Sums over chunks are kept in single precision at least.
        d_key, d_value = _sums_like(key), _sums_like(value)
        d_content, d_position = torch.empty_like(by_content), torch.empty_like(by_content)
        d_offsets = None if offsets is None else _sums_like(offsets)
        d_by_offset = by_content.new_empty(0, 0, 0, 0)
        for i, (rows, columns) in enumerate(_chunks(n_frames)):
            weights, *mask = saved[3 * i : 3 * i + 3]
            dy_rows = dy[:, :, rows].flatten(0, 1)
            d_value += _dropped(weights, *mask).flatten(0, 1).mT @ dy_rows
            d_weights = _dropped((dy_rows @ value.mT).view_as(weights), *mask)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            flat = d_scores.flatten(0, 1)
            d_content[:, :, rows] = (flat @ key).unflatten(0, (-1, n_batch))
            d_key += flat.mT @ by_content[:, :, rows].flatten(0, 1)
            if d_offsets is None:
                continue
            if d_by_offset.shape[2] != weights.shape[2]:
                # What no key corresponds to stays 0 from chunk to chunk.
                d_by_offset = weights.new_zeros(*weights.shape[:3], weights.shape[2] + n_frames - 1)
            relative_shift(d_by_offset).copy_(d_scores)
            by_head = d_by_offset.flatten(1, 2)
            d_position[:, :, rows] = (by_head @ offsets[..., columns].mT).unflatten(1, (n_batch, -1))
            d_offsets[..., columns] += by_position[:, :, rows].flatten(1, 2).mT @ by_head
        d_content *= size**-0.5
        d_biases: list[Tensor | None] = [None, None]
        d_query = d_content
        if d_offsets is not None:
            d_position *= size**-0.5
            d_biases = [one.sum((1, 2), dtype=d_key.dtype)[:, None].to(key.dtype) for one in (d_content, d_position)]
            d_query = d_content + d_position
        parts = [d_query, d_key.view_as(d_query), d_value.view_as(d_query)]
        d_projected = torch.stack([one.to(key.dtype).permute(1, 2, 0, 3) for one in parts], dim=2)
        return d_projected, *d_biases, None if d_offsets is None else d_offsets.to(key.dtype), None, None


def _chunks(n_frames: int) -> Iterator[tuple[slice, slice]]:
    """Chunks of queries, and of all offsets those that each has: from the last one's to the first key on."""
    for start in range(0, n_frames, CHUNK):
        end = min(start + CHUNK, n_frames)
        yield slice(start, end), slice(n_frames - end, 2 * n_frames - 1 - start)


def _scaled(query: Tensor, bias: Tensor | None) -> Tensor:
    """Biased queries (H, B, T, d), contiguous, divided by the root of their width."""
    made = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    made = made.copy_(query) if bias is None else torch.add(query, bias[:, None], out=made)
    return made.mul_(query.shape[-1] ** -0.5)


def _dropped(weights: Tensor, mask: Tensor | None, scale: Tensor | None) -> Tensor:
    return weights if mask is None or scale is None else masked(weights, mask, scale)


def _sums_like(x: Tensor) -> Tensor:
    return torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))

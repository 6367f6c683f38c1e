"""Monotonic rational-quadratic splines (Durkan et al. 2019, "Neural Spline Flows", arXiv 1906.04032, section 3.1)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_SIZE = 1e-3
MIN_SLOPE = 1e-3


def _knots(sizes: Tensor, bound: float) -> tuple[Tensor, Tensor]:
    """Unnormalized sizes of the bins -> the borders (..., K + 1) from -bound to bound, and the sizes."""
    n_bins = sizes.shape[-1]
    shares = MIN_SIZE + (1 - MIN_SIZE * n_bins) * sizes.softmax(dim=-1)
    borders = F.pad(shares.cumsum(dim=-1)[..., :-1], (1, 1))
    borders[..., -1] = 1.0
    borders = 2 * bound * borders - bound
    return borders, borders.diff(dim=-1)


def rational_quadratic(
    x: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, bound: float, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """A monotonic map of [-bound, bound] onto itself, and the identity outside.

    Args:
        x (Tensor): any shape.
        widths (Tensor): unnormalized, (..., K).
        heights (Tensor): unnormalized, (..., K).
        slopes (Tensor): unnormalized, at the inner borders, (..., K - 1); at the outer ones the slope is 1.
        bound: of the interval.
        inverse: the inverse map.

    Returns:
        The mapped values, and the natural log of the slope there, both in the shape of `x`.
    """
    inside = (x >= -bound) & (x <= bound)
    held = x.clamp(-bound, bound)
    left, width = _knots(widths, bound)
    bottom, height = _knots(heights, bound)
    outer = math.log(math.exp(1 - MIN_SLOPE) - 1)
    slope = MIN_SLOPE + F.softplus(F.pad(slopes, (1, 1), value=outer))
    borders = (bottom if inverse else left)[..., 1:-1]
    index = (held.unsqueeze(-1) >= borders).sum(dim=-1, keepdim=True)
    picked = [t.gather(-1, index).squeeze(-1) for t in (left, width, bottom, height, slope, slope[..., 1:])]
    mapped, log_slope = (_inverse if inverse else _forward)(held, *picked)
    return torch.where(inside, mapped, x), log_slope.masked_fill(~inside, 0.0)


def _forward(
    x: Tensor, left: Tensor, width: Tensor, bottom: Tensor, height: Tensor, first: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    place = (x - left) / width
    ratio = height / width
    denominator = ratio + (first + last - 2 * ratio) * place * (1 - place)
    mapped = bottom + height * (ratio * place.square() + first * place * (1 - place)) / denominator
    return mapped, _log_slope(place, ratio, first, last, denominator)


def _inverse(
    y: Tensor, left: Tensor, width: Tensor, bottom: Tensor, height: Tensor, first: Tensor, last: Tensor
) -> tuple[Tensor, Tensor]:
    ratio = height / width
    risen = y - bottom
    bend = risen * (first + last - 2 * ratio)
    a = height * (ratio - first) + bend
    b = height * first - bend
    c = -ratio * risen
    place = 2 * c / (-b - (b.square() - 4 * a * c).clamp(min=0).sqrt())
    denominator = ratio + (first + last - 2 * ratio) * place * (1 - place)
    return left + place * width, -_log_slope(place, ratio, first, last, denominator)


def _log_slope(place: Tensor, ratio: Tensor, first: Tensor, last: Tensor, denominator: Tensor) -> Tensor:
    rise = last * place.square() + 2 * ratio * place * (1 - place) + first * (1 - place).square()
    return 2 * ratio.log() + rise.log() - 2 * denominator.log()

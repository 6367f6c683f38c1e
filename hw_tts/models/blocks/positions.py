"""Absolute positions of tokens and frames, for sequences of any length."""

from typing import Literal

import torch
from torch import Tensor, nn

from hw_base.errors import DataError
from hw_base.nn.layers import sinusoids

PositionName = Literal["sinusoidal", "learned"]
Beyond = Literal["interpolate", "error"]


class SinusoidalPositions(nn.Module):
    """Sines and cosines (Vaswani et al. 2017, section 3.5), computed for as many positions as there are.

    Args:
        width: D.
        start: number of the first position: 0, or 1 as in implementations that keep 0 for the padding.
    """

    def __init__(self, width: int, start: int = 0) -> None:
        super().__init__()
        self.width = width
        self.start = start

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """``x`` (B, T, D) and its positions, summed; ``length`` (B,) has no influence."""
        places = torch.arange(self.start, self.start + x.shape[1], device=x.device)
        return x + sinusoids(places, self.width).to(x.dtype)


class LearnedPositions(nn.Module):
    """A table of positions (Gehring et al. 2017), which a longer sequence stretches over its own length.

    Args:
        width: D.
        n_positions: rows of the table.
        beyond: sequences longer than the table are an ``error``, or their positions lie evenly between its ends
            (``interpolate``). The latter looks at each utterance's own length, so padding has no influence.
    """

    def __init__(self, width: int, n_positions: int, beyond: Beyond = "interpolate") -> None:
        super().__init__()
        self.beyond = beyond
        self.table = nn.Parameter(torch.randn(n_positions, width))

    def forward(self, x: Tensor, length: Tensor) -> Tensor:
        """Add positions.

        Args:
            x (Tensor): (B, T, D).
            length (Tensor): valid positions, (B,), int64.

        Returns:
            Tensor: (B, T, D).

        Raises:
            DataError: T is more than the table has, and ``beyond`` is ``error``.
        """
        n_rows, n_positions = len(self.table), x.shape[1]
        # An exported graph is for any length, and the stretched positions of a short one are those of the table.
        if not torch.compiler.is_exporting() and n_positions <= n_rows:
            return x + self.table[:n_positions].to(x.dtype)
        if self.beyond == "error":
            raise DataError(
                f"a sequence of {n_positions} does not fit the model's table of {n_rows} positions; shorten it, or "
                "take 'sinusoidal' positions or beyond_positions='interpolate'"
            )
        return x + self._stretched(length, n_positions).to(x.dtype)

    def _stretched(self, length: Tensor, n_positions: int) -> Tensor:
        last = len(self.table) - 1
        step = (last / (length - 1).clamp(min=1)).clamp(max=1.0)
        place = (torch.arange(n_positions, device=length.device) * step[:, None]).clamp(max=last)
        below = place.floor().long()
        above = (below + 1).clamp(max=last)
        return torch.lerp(self.table[below], self.table[above], (place - below)[..., None].to(self.table.dtype))


def make_positions(name: PositionName, width: int, n_positions: int, beyond: Beyond, start: int) -> nn.Module:
    """Positions called with ``x`` (B, T, D) and lengths (B,)."""
    if name == "sinusoidal":
        return SinusoidalPositions(width, start)
    return LearnedPositions(width, n_positions, beyond)

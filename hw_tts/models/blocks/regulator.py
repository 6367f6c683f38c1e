"""From tokens to frames and back, by durations that stay integers.

Cumulative sums of durations in half precision cannot tell positions above 256 apart; here nothing but integers decides
which token a frame belongs to. Sums of gradients and of values are taken in higher precision for the same reason.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LengthRegulator(nn.Module):
    """Repeats every token's vector for as many frames as the token lasts.

    Ren et al. 2019, "FastSpeech", section 3.2. It has no parameters; the module is `expand` as a block.
    """

    def forward(self, hidden: Tensor, durations: Tensor, max_frames: int | None = None) -> tuple[Tensor, Tensor]:
        """Arguments and results as in `expand`."""
        return expand(hidden, durations, max_frames)


def expand(hidden: Tensor, durations: Tensor, max_frames: int | None = None) -> tuple[Tensor, Tensor]:
    """Repeat every token's vector for as many frames as the token lasts.

    Args:
        hidden (Tensor): one vector a token, any float dtype, (B, L, D).
        durations (Tensor): frames of each token, not negative, 0 in the padding, int64, (B, L).
        max_frames: T of the result, what lies beyond it is cut off; None takes the longest utterance's frames, which
            makes the host wait for the device.

    Returns:
        expanded (Tensor): 0 after the last token's last frame, (B, T, D).
        frames (Tensor): of each utterance, int64, (B,).
    """
    B, L, D = hidden.shape
    frames = durations.sum(1)
    T = largest(frames) if max_frames is None else max_frames
    token = frame_tokens(durations, T)
    row = token + torch.arange(0, B * (L + 1), L + 1, device=token.device)[:, None]
    exact = hidden.to(torch.promote_types(hidden.dtype, torch.float32))  # in which gradients are summed
    padded = F.pad(exact, (0, 0, 0, 1)).view(B * (L + 1), D)  # the row after the last token is what is silent
    expanded = padded.index_select(0, row.flatten()).view(B, T, D)
    return expanded.to(hidden.dtype), frames.clamp(max=T)


def largest(frames: Tensor) -> int:
    """The largest number of a tensor of integers; in a graph that is exported, a size that only a run knows."""
    size: int = frames.max().item()  # type: ignore[assignment]
    if torch.compiler.is_exporting():
        torch._check(size >= 1)  # type: ignore[no-untyped-call]  # which a convolution asks
    return size


def frame_tokens(durations: Tensor, n_frames: int) -> Tensor:
    """The token that each frame belongs to; L after the last one.

    Args:
        durations (Tensor): int64, (B, L).
        n_frames: T of the result.

    Returns:
        tokens (Tensor): int64, (B, T).
    """
    frame = torch.arange(n_frames, device=durations.device).expand(durations.shape[0], n_frames)
    ends = durations.cumsum(1)
    if torch.compiler.is_exporting():  # ONNX has no search
        return (ends[:, None] <= frame[..., None]).sum(dim=2)
    return torch.searchsorted(ends, frame.contiguous(), right=True)


def average_by_duration(values: Tensor, durations: Tensor, voiced: Tensor | None = None) -> Tensor:
    """Mean of a frame-level quantity over each token's frames.

    Args:
        values (Tensor): for example F0 or energy, (B, T).
        durations (Tensor): frames of each token, int64, (B, L).
        voiced (Tensor | None): bool, (B, T); frames that count. None counts all.

    Returns:
        means (Tensor): 0 for tokens without frames that count, (B, L), dtype of ``values``.
    """
    counted = torch.ones_like(values, dtype=torch.bool) if voiced is None else voiced
    sums = F.pad(values.double().masked_fill(~counted, 0.0).cumsum(1), (1, 0))
    counts = F.pad(counted.long().cumsum(1), (1, 0))
    end = durations.cumsum(1)
    start = (end - durations).clamp(max=values.shape[1])
    end = end.clamp(max=values.shape[1])
    total, count = sums.gather(1, end) - sums.gather(1, start), counts.gather(1, end) - counts.gather(1, start)
    return (total / count.clamp(min=1)).masked_fill(count == 0, 0.0).to(values.dtype)

"""Random pieces of a batch, cut without loops, and the expansion of tokens to frames."""

import torch
from torch import Tensor

from hw_tts.models.blocks.regulator import frame_tokens


def random_starts(length: Tensor, size: int) -> Tensor:
    """First frames of random segments that lie inside their utterances where these are long enough.

    Args:
        length (Tensor): frames, (B,).
        size: frames of a segment.

    Returns:
        Tensor: int64, (B,); 0 for utterances shorter than a segment.
    """
    room = (length - size + 1).clamp(min=1)
    return (torch.rand(length.shape, device=length.device) * room).long().clamp(max=room - 1)


def cut(x: Tensor, start: Tensor, size: int) -> Tensor:
    """The piece of each row that begins at its start; zeros stand where the tensor ends before.

    Args:
        x (Tensor): (B, ..., T).
        start (Tensor): int64, (B,).
        size: of the pieces.

    Returns:
        Tensor: (B, ..., size).
    """
    index = start.unsqueeze(1) + torch.arange(size, device=x.device)
    inside = index < x.shape[-1]
    shape = (x.shape[0],) + (1,) * (x.dim() - 2) + (size,)
    index, inside = index.clamp(max=x.shape[-1] - 1).view(shape), inside.view(shape)
    return x.gather(-1, index.expand(*x.shape[:-1], size)) * inside


def token_of_frame(durations: Tensor, n_frames: int) -> Tensor:
    """Which token each frame belongs to.

    Args:
        durations (Tensor): frames of each token, int64, (B, L).
        n_frames: T.

    Returns:
        Tensor: int64, (B, T); frames after the last token count as the last one's.
    """
    return frame_tokens(durations, n_frames).clamp(max=durations.shape[1] - 1)


def expand(x: Tensor, durations: Tensor, n_frames: int) -> Tensor:
    """Repeat tokens for their durations: (B, C, L) -> (B, C, T)."""
    index = token_of_frame(durations, n_frames)
    return x.gather(2, index.unsqueeze(1).expand(-1, x.shape[1], -1))

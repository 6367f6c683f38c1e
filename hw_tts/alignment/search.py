"""Monotonic alignment search: the best assignment of frames to tokens in order, each token at least one frame.

Kim et al. 2020, "Glow-TTS", section 3.2 and algorithm 1. On equal scores a path stays with its token as long as it can.
The score of a path is summed in float32, frame after frame, so that the result is the same in all engines, and the
same as that of the widespread Cython loop.
"""

import importlib.util
import itertools
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hw_base.errors import MissingPackageError

Engine = Literal["auto", "numba", "tensor"]


def search_path(scores: Tensor, spectrogram_length: Tensor, tokens_length: Tensor, engine: Engine = "auto") -> Tensor:
    """The best monotonic alignment as ones and zeros.

    Where an utterance has fewer frames than tokens, no path visits all: its first tokens then get one frame each and
    the others none. Utterances without tokens or without frames get no path.

    Args:
        scores (Tensor): how well token and frame fit, log domain, any float dtype, (B, T, L); no gradient flows.
        spectrogram_length (Tensor): int64, (B,).
        tokens_length (Tensor): int64, (B,).
        engine: ``numba`` on a CPU; ``tensor`` anywhere, without host synchronization; ``auto`` takes the faster one.

    Returns:
        path (Tensor): 1 where the frame belongs to the token, as ``scores`` in shape, dtype and device.

    Raises:
        MissingPackageError: ``engine`` is ``numba``, which is not installed.
    """
    tokens = search_tokens(scores, spectrogram_length, tokens_length, engine)
    path = scores.new_zeros(scores.shape)
    if scores.shape[2] == 0:
        return path
    return path.scatter_(2, tokens.clamp(min=0)[:, :, None], (tokens >= 0).to(scores.dtype)[:, :, None])


def search_durations(
    scores: Tensor, spectrogram_length: Tensor, tokens_length: Tensor, engine: Engine = "auto"
) -> Tensor:
    """Frames of every token on the best monotonic alignment; arguments as in `search_path`.

    Returns:
        durations (Tensor): int64, (B, L); they sum to ``spectrogram_length`` wherever there is a token.
    """
    tokens = search_tokens(scores, spectrogram_length, tokens_length, engine)
    durations = torch.zeros(scores.shape[0], scores.shape[2] + 1, dtype=torch.int64, device=scores.device)
    return durations.scatter_add_(1, tokens + 1, torch.ones_like(tokens))[:, 1:]


@torch.no_grad()
def search_tokens(scores: Tensor, spectrogram_length: Tensor, tokens_length: Tensor, engine: Engine = "auto") -> Tensor:
    """The token of every frame on the best monotonic alignment; arguments as in `search_path`.

    Returns:
        tokens (Tensor): positions from 0, -1 in the padding, int64, (B, T).
    """
    spectrogram_length = spectrogram_length.to(scores.device)
    tokens_length = torch.minimum(tokens_length.to(scores.device), spectrogram_length)
    if engine == "numba" or (engine == "auto" and scores.device.type == "cpu" and _has_numba()):
        return _search_compiled(scores, spectrogram_length, tokens_length)
    return _search_tensors(scores.float(), spectrogram_length, tokens_length)


def _has_numba() -> bool:
    return importlib.util.find_spec("numba") is not None


def _search_compiled(scores: Tensor, spectrogram_length: Tensor, tokens_length: Tensor) -> Tensor:
    try:
        from hw_tts.alignment import compiled
    except ImportError as error:
        raise MissingPackageError("engine numba of the alignment search", "numba") from error
    assert (spectrogram_length <= scores.shape[1]).all()
    assert (tokens_length <= scores.shape[2]).all()
    tokens = torch.full(scores.shape[:2], -1, dtype=torch.int64)
    compiled.search(
        scores.to("cpu", torch.float32).contiguous().numpy(),
        spectrogram_length.to("cpu", torch.int64).numpy(),
        tokens_length.to("cpu", torch.int64).numpy(),
        tokens.numpy(),
    )
    return tokens.to(scores.device)


def _search_tensors(scores: Tensor, spectrogram_length: Tensor, tokens_length: Tensor) -> Tensor:
    B, T, L = scores.shape
    found = scores.new_full((T, B), -1, dtype=torch.int64)
    if T == 0 or L == 0:
        return found.T
    # A column on the left of the first token spares a case: nothing comes from there but the beginning.
    best = F.pad(scores.transpose(0, 1), (1, 0), value=-torch.inf)
    best[0, :, 2:] = -torch.inf
    for before, now in itertools.pairwise(best):
        now[:, 1:] += torch.maximum(before[:, :-1], before[:, 1:])
    moves = torch.zeros(T, B, L, dtype=torch.int8, device=scores.device)
    torch.gt(best[:-1, :, :-1], best[:-1, :, 1:], out=moves[1:].view(torch.bool))
    moves[:, :, 0] = 0
    diagonal = torch.arange(1, min(T, L), device=scores.device)
    moves[diagonal, :, diagonal] = 1
    frame = torch.arange(T, device=scores.device)[:, None]
    moves *= (frame < spectrogram_length)[:, :, None]
    token = (tokens_length - 1).clamp(min=0)[:, None]
    for move, here in zip(reversed(moves.unbind()), reversed(found.unbind()), strict=True):
        here.copy_(token[:, 0])
        token = token - move.gather(1, token)
    return found.T.masked_fill((spectrogram_length[:, None] <= frame.T) | (tokens_length == 0)[:, None], -1)

"""The conditions that every decoder puts on its input."""

import torch
from torch import Tensor

from hw_base.errors import DataError

# How far from zero the log of a frame's sum may be; half-precision posteriors stay well below.
_TOLERANCE = 0.02


def check_posteriors(log_probs: Tensor, log_probs_length: Tensor, n_tokens: int) -> None:
    """Args:
        log_probs: (B, T, V).
        log_probs_length: (B,).

    Raises:
        DataError: shapes that do not fit, or frames whose probabilities do not sum to one.
    """
    if log_probs.dim() != 3 or log_probs.shape[2] != n_tokens:
        raise DataError(f"decoder: expected log_probs (B, T, {n_tokens}), found shape {tuple(log_probs.shape)}")
    if log_probs_length.shape != log_probs.shape[:1]:
        raise DataError(f"decoder: {len(log_probs)} utterances but log_probs_length {tuple(log_probs_length.shape)}")
    # Not by logsumexp: it would look for each frame's largest first, and cost more than a whole fast search.
    place = first_wrong(~(log_probs.float().exp().sum(dim=2).log().abs() <= _TOLERANCE), log_probs_length)
    if place is not None:
        row, frame = place
        found = float(log_probs[row, frame].float().logsumexp(0))
        raise DataError(
            f"decoder: utterance {row} of the batch, frame {frame}: the probabilities do not sum to one "
            f"(log of the sum {found:.4g}); decoders take log_softmax outputs"
        )


def first_wrong(wrong: Tensor, length: Tensor) -> tuple[int, int] | None:
    """Utterance and frame of the first wrong frame inside its utterance, or None; one look at a GPU where all is right.

    Args:
        wrong: (B, T), bool.
        length: valid frames of each utterance, (B,).

    Raises:
        DataError: an utterance claims more than T frames.
    """
    n_frames, length = wrong.shape[1], length.to(wrong.device)
    wrong = wrong & (torch.arange(n_frames, device=wrong.device) < length[:, None])
    problems = torch.stack([wrong.any(), (length > n_frames).any()])
    if not bool(problems.any()):
        return None
    if not bool(problems[0]):
        row = int(length.argmax())
        raise DataError(f"decoder: utterance {row} claims {int(length[row])} frames of {n_frames}")
    row, frame = torch.nonzero(wrong)[0].tolist()
    return row, frame

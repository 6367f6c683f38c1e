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
    n_frames = log_probs.shape[1]
    if log_probs_length.shape != log_probs.shape[:1]:
        raise DataError(f"decoder: {len(log_probs)} utterances but log_probs_length {tuple(log_probs_length.shape)}")
    valid = torch.arange(n_frames, device=log_probs.device) < log_probs_length.to(log_probs.device)[:, None]
    # Not by logsumexp: it would look for each frame's largest first, and cost more than a whole fast search.
    wrong = ~(log_probs.float().exp().sum(dim=2).log().abs() <= _TOLERANCE) & valid
    problems = torch.stack([wrong.any(), (log_probs_length > n_frames).any().to(wrong.device)])
    if problems.any():
        row, frame = (
            torch.nonzero(wrong)[0].tolist() if bool(problems[0]) else (int(log_probs_length.argmax()), n_frames)
        )
        if frame == n_frames:
            raise DataError(f"decoder: utterance {row} claims {int(log_probs_length[row])} frames of {n_frames}")
        found = float(log_probs[row, frame].float().logsumexp(0))
        raise DataError(
            f"decoder: utterance {row} of the batch, frame {frame}: the probabilities do not sum to one "
            f"(log of the sum {found:.4g}); decoders take log_softmax outputs"
        )

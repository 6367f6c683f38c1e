"""Predicted durations, in one of two domains, and the whole frames that they are spoken with."""

from typing import Literal

import torch
from torch import Tensor

from hw_tts.models.base import Factor, refuse_unless_positive

DurationDomain = Literal["log", "linear"]

# The key of the model's output says in which domain it predicts.
PREDICTED_KEYS: dict[DurationDomain, str] = {"log": "log_durations_predicted", "linear": "durations_predicted"}


def duration_target(durations: Tensor, domain: DurationDomain) -> Tensor:
    """What is predicted for durations in frames: themselves, or ``log(d + 1)``, which zero has too; float32."""
    values = durations.float()
    return values.log1p() if domain == "log" else values


def whole_durations(predicted: Tensor, mask: Tensor, domain: DurationDomain, speed: Factor = 1.0) -> Tensor:
    """Durations to speak with.

    Args:
        predicted (Tensor): in the domain, (B, L).
        mask (Tensor): valid tokens, bool, (B, L).
        domain: of the prediction.
        speed: by which they are divided.

    Returns:
        Tensor: frames, int64, (B, L), 0 in the padding, at least one frame in each utterance.

    Raises:
        ConfigError: the speed is not positive.
    """
    refuse_unless_positive("speed", speed)
    frames = predicted.float()
    # A badly trained model must not ask for more frames than memory holds: e^9 are some 90 seconds for one token.
    frames = frames.clamp(max=9.0).expm1() if domain == "log" else frames
    frames = (frames / speed).masked_fill(~mask, -torch.inf)
    durations = frames.round().clamp(min=0).long()
    longest = torch.zeros_like(durations).scatter_(1, frames.argmax(dim=1, keepdim=True), 1)
    return torch.where(durations.sum(dim=1, keepdim=True) == 0, longest, durations)

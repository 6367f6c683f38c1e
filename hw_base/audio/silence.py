"""Silence at both ends of a recording, found by its energy."""

import torch
from torch import Tensor

_WINDOW_SECONDS = 0.02
_STEP_SECONDS = 0.005


def speech_bounds(waveform: Tensor, sample_rate: int, threshold_db: float, margin: float) -> tuple[int, int]:
    """The first sample to keep, and the one behind the last.

    Windows of 20 ms, every 5 ms, are silent where their mean square is more than this many decibels below the loudest.

    Args:
        waveform: (S,).
        sample_rate: in Hz.
        threshold_db: decibels, positive.
        margin: seconds that are kept before the first and behind the last window that is not silent.

    Returns:
        start and end; 0 and S where everything is zero.
    """
    window, step = max(1, round(_WINDOW_SECONDS * sample_rate)), max(1, round(_STEP_SECONDS * sample_rate))
    n_samples = waveform.shape[-1]
    before = window // 2
    padded = torch.nn.functional.pad(waveform.double() ** 2, (before, window + step))
    power = padded.unfold(0, window, step).mean(1)
    if n_samples == 0 or float(power.max()) == 0.0:
        return 0, n_samples
    loud = torch.nonzero(power > power.max() * 10 ** (-threshold_db / 10))[:, 0]
    # Window i is centered at sample i * step.
    kept = round(margin * sample_rate)
    start = int(loud[0]) * step - kept
    end = int(loud[-1]) * step + 1 + kept
    return max(0, min(start, n_samples - 1)), min(n_samples, max(end, 1))

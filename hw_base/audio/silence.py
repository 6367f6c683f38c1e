"""Silence at both ends of a recording and pauses within it, found by their energy."""

import torch
from torch import Tensor

_WINDOW_SECONDS = 0.02
_STEP_SECONDS = 0.005
# A recording's own quiet and loud levels are these quantiles of its windows; a pause lies in the lowest part between.
_QUIET, _LOUD, _PAUSE_SHARE = 0.05, 0.95, 0.25


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
    power, step = _power(waveform, sample_rate)
    n_samples = waveform.shape[-1]
    if n_samples == 0 or float(power.max()) == 0.0:
        return 0, n_samples
    loud = torch.nonzero(power > power.max() * 10 ** (-threshold_db / 10))[:, 0]
    # Window i is centered at sample i * step.
    kept = round(margin * sample_rate)
    start = int(loud[0]) * step - kept
    end = int(loud[-1]) * step + 1 + kept
    return max(0, min(start, n_samples - 1)), min(n_samples, max(end, 1))


def pauses(waveform: Tensor, sample_rate: int, shortest: float) -> list[tuple[float, float]]:
    """Where a recording is quiet, as ``(start, end)`` in seconds, in order.

    Quiet are windows of 20 ms, every 5 ms, whose level in decibels lies in the lowest quarter between the recording's
    own quiet level (5 % of the windows are below) and its loud one (95 %). So noise in the background does not matter,
    as long as speech is louder.

    Args:
        waveform: (S,).
        sample_rate: in Hz.
        shortest: seconds; what is quiet for less is no pause.
    """
    power, step = _power(waveform, sample_rate)
    level = 10.0 * power.clamp_min(1e-10).log10()
    quiet, loud = (float(level.quantile(q)) for q in (_QUIET, _LOUD))
    is_quiet = (level < quiet + _PAUSE_SHARE * (loud - quiet)).to(torch.int8)
    edges = torch.nn.functional.pad(is_quiet, (1, 1)).diff()
    seconds = step / sample_rate
    starts, ends = (torch.nonzero(edges == sign)[:, 0].tolist() for sign in (1, -1))
    found = [(start * seconds, (end - 1) * seconds) for start, end in zip(starts, ends, strict=True)]
    return [(start, end) for start, end in found if end - start >= shortest]


def _power(waveform: Tensor, sample_rate: int) -> tuple[Tensor, int]:
    """Mean square of windows, and the samples from one to the next; window i is centered at sample i * step."""
    window, step = max(1, round(_WINDOW_SECONDS * sample_rate)), max(1, round(_STEP_SECONDS * sample_rate))
    padded = torch.nn.functional.pad(waveform.double() ** 2, (window // 2, window + step))
    return padded.unfold(0, window, step).mean(1), step

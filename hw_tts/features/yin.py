"""F0 by YIN: all frames at once in torch, then the cheapest path through each frame's candidates."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

# Nothing above a few harmonics of F0 helps; at this rate a period is a fifth of the samples of 44.1 kHz.
_SMALLEST_RATE = 8000.0
_PASS_BAND_HZ = (60.0, 1800.0)
# De Cheveigne and Kawahara integrate over 25 ms.
_WINDOW_SECONDS = 0.025

# Costs of a path, in units of the normalized difference (0 is perfectly periodic, 1 not at all).
_N_CANDIDATES = 6
_OCTAVE_COST = 0.02  # of a candidate, for each octave below the ceiling: multiples of a period fit as well as itself
_JUMP_COST = 0.7  # for each octave between neighboring frames
_SWITCH_COST = 0.14  # between voiced and unvoiced
_UNVOICED_COST = 0.3  # of an unvoiced frame
_QUIET = 0.03  # of the loudest frame's amplitude: below it, being unvoiced gets cheaper in proportion
_NO_CANDIDATE_COST = 9.0
_SHORTEST_SECONDS = 0.05  # of a voiced stretch; what is shorter is chance


def yin(waveform: Tensor, sample_rate: int, hop_length: int, n_frames: int, floor: float, ceiling: float) -> Tensor:
    """F0 of one utterance; frame t is centered on sample ``t * hop_length``.

    De Cheveigne and Kawahara (2002): the difference function (eq. 6, by FFT) over its cumulative mean (eq. 8), whose
    minima, refined by parabolas (step 5), are the candidates. In place of the threshold of step 4 and the search among
    neighbors of step 6, a Viterbi search weighs depth, octave, continuity and voicing against each other, as in
    Boersma (1993). The signal is first band-limited and decimated by a divisor of the hop.

    Args:
        waveform: (S,), float32, on the CPU.
        sample_rate: in Hz.
        hop_length: in samples.
        n_frames: T.
        floor: lowest F0 looked for, in Hz.
        ceiling: highest F0 looked for, in Hz.

    Returns:
        Tensor: (T,), float32, Hz; 0 where a frame is unvoiced.
    """
    factors = [k for k in range(1, hop_length + 1) if hop_length % k == 0 and sample_rate / k >= _SMALLEST_RATE]
    factor = max(factors, default=1)
    signal = _decimated(waveform, sample_rate, factor, 2.0 * ceiling)
    rate = sample_rate / factor
    shortest, longest = max(2, int(rate / ceiling)), math.ceil(rate / floor) + 1
    difference, level = _difference(signal, rate, hop_length // factor, n_frames, longest)
    lags, costs = _candidates(difference, shortest, longest)
    loudness = level / level.max().clamp(min=1e-9)
    unvoiced_cost = _UNVOICED_COST * (loudness / _QUIET).clamp(max=1.0)
    pitch = rate / lags
    path = _cheapest_path(pitch.double().numpy(), costs.double().numpy(), unvoiced_cost.double().numpy())
    chosen = F.pad(pitch, (0, 1)).gather(1, torch.from_numpy(path).unsqueeze(1)).squeeze(1)
    return _without_short_stretches(chosen, round(_SHORTEST_SECONDS * sample_rate / hop_length))


def _decimated(waveform: Tensor, sample_rate: int, factor: int, highest: float) -> Tensor:
    """The pass band alone, at ``sample_rate / factor``; sample i lies where sample ``factor * i`` was."""
    # Room after the end, so that the circular filter does not wrap it around to the beginning.
    n_after = _fast_length(-(-len(waveform) // factor) + sample_rate // (10 * factor))
    spectrum = torch.fft.rfft(waveform, n_after * factor)[: n_after // 2 + 1]
    frequency = torch.arange(len(spectrum)) * (sample_rate / (n_after * factor))
    low, high = _PASS_BAND_HZ
    high = min(max(high, highest), 0.4 * sample_rate / factor)
    rise = (2.0 * frequency / low - 1.0).clamp(0.0, 1.0)
    fall = ((1.25 * high - frequency) / (0.25 * high)).clamp(0.0, 1.0)
    decimated: Tensor = torch.fft.irfft(spectrum * (rise * fall), n_after) / factor
    return decimated


def _difference(signal: Tensor, rate: float, hop: int, n_frames: int, longest: int) -> tuple[Tensor, Tensor]:
    """The cumulative-mean-normalized difference at lags 1 to ``longest``, (T, longest), and each frame's level (T,)."""
    n_window = round(_WINDOW_SECONDS * rate)
    n_samples = n_window + longest + 1
    before = (n_window + longest // 2) // 2
    signal = F.pad(signal, (before, max(1, (n_frames - 1) * hop + n_samples - before - len(signal) + 1)))
    frames = signal.unfold(0, n_samples, hop)[:n_frames]
    n_fft = _fast_length(n_samples)
    spectrum = torch.fft.rfft(frames, n_fft) * torch.fft.rfft(frames[:, :n_window], n_fft).conj()
    correlation = torch.fft.irfft(spectrum, n_fft)[:, : longest + 1]
    total = F.pad(signal.double().square().cumsum(0), (1, 0))
    energy = (total[n_window:] - total[:-n_window]).float().unfold(0, longest + 1, hop)[:n_frames]
    difference = (energy[:, :1] + energy - 2.0 * correlation)[:, 1:].clamp(min=0.0)
    lag = torch.arange(1, longest + 1)
    return difference * lag / difference.cumsum(1).clamp(min=1e-9), energy[:, 0].clamp(min=0.0).sqrt()


def _candidates(difference: Tensor, shortest: int, longest: int) -> tuple[Tensor, Tensor]:
    """The best local minima of each frame: lags in samples and costs, both (T, K)."""
    before, here, after = (difference[:, shortest - 2 + k : longest - 2 + k] for k in range(3))
    octaves = torch.log2(torch.arange(shortest, longest) / shortest)
    is_minimum = (here <= after) & (here < before)
    cost = torch.where(is_minimum, here + _OCTAVE_COST * octaves, torch.tensor(_NO_CANDIDATE_COST))
    costs, places = cost.topk(min(_N_CANDIDATES, cost.shape[1]), dim=1, largest=False)
    before, here, after = (part.gather(1, places) for part in (before, here, after))
    curvature = (before - 2.0 * here + after).clamp(min=1e-9)
    return places + shortest + (0.5 * (before - after) / curvature).clamp(-0.5, 0.5), costs


def _cheapest_path(
    pitch: NDArray[np.float64], costs: NDArray[np.float64], unvoiced_cost: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Viterbi over K candidates and, as state K, being unvoiced: (T, K), (T, K), (T,) -> states (T,)."""
    n_frames, unvoiced = pitch.shape
    costs = np.concatenate([costs, unvoiced_cost[:, None]], axis=1)
    octaves = np.concatenate([np.log2(pitch), np.zeros((n_frames, 1))], axis=1)
    moves = _JUMP_COST * np.abs(octaves[1:, None, :] - octaves[:-1, :, None])  # (T - 1, from, to)
    moves[:, unvoiced, :] = moves[:, :, unvoiced] = _SWITCH_COST
    moves[:, unvoiced, unvoiced] = 0.0
    origin = np.zeros((n_frames, unvoiced + 1), dtype=np.int64)
    total = costs[0]
    for t in range(1, n_frames):
        reached = total[:, None] + moves[t - 1]
        origin[t] = reached.argmin(axis=0)
        total = reached.min(axis=0) + costs[t]
    path = np.empty(n_frames, dtype=np.int64)
    path[-1] = total.argmin()
    for t in range(n_frames - 1, 0, -1):
        path[t - 1] = origin[t, path[t]]
    return path


def _without_short_stretches(pitch: Tensor, shortest: int) -> Tensor:
    """Unvoiced where fewer than ``shortest`` frames in a row are voiced: a morphological opening."""
    if shortest < 2:
        return pitch
    if len(pitch) < shortest:
        return torch.zeros_like(pitch)
    voiced = (pitch > 0).float().view(1, 1, -1)
    complete = -F.max_pool1d(-voiced, shortest, stride=1)
    opened = F.max_pool1d(F.pad(complete, (shortest - 1, shortest - 1)), shortest, stride=1)
    return pitch * opened.view(-1)


def _fast_length(n: int) -> int:
    """The next length without prime factors above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1

"""Cosine-modulated filter bank that splits a waveform into sub-bands and joins them (pseudo-QMF).

Source: Nguyen 1994, "Near-perfect-reconstruction pseudo-QMF banks", section II; prototype by the Kaiser window as in
Lin and Vaidyanathan 1998. The bank of public multi-band checkpoints has two faults that their weights were trained
around: its phases are half a sample off, and its cutoff is not the one that reconstructs. Analysis and synthesis with
it give 16 dB and one sample of delay; the exact bank gives 64 dB without delay.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hw_tts.models.vits2.inverse_stft import overlap_add, phases

Bank = Literal["public", "exact"]
BETA = 9.0
PUBLIC_TAPS, PUBLIC_CUTOFF = 62, 0.15


def taps_of(subbands: int) -> int:
    """Order of the filters: 62 for 4 bands, and in proportion for others; even."""
    return 2 * round(PUBLIC_TAPS / 8 * subbands)


def prototype(cutoff: float, taps: int) -> Tensor:
    """Low-pass filter by the Kaiser window, float64, (taps + 1,).

    Args:
        cutoff: as a share of the Nyquist frequency.
        taps: order, even.
    """
    n = torch.arange(taps + 1, dtype=torch.float64, device="cpu") - taps / 2
    return cutoff * torch.sinc(cutoff * n) * torch.kaiser_window(taps + 1, False, BETA, dtype=n.dtype, device="cpu")


def exact_cutoff(subbands: int) -> float:
    """The cutoff with which neighboring bands sum to the power of one at their border, found by bisection."""
    taps = taps_of(subbands)
    n = torch.arange(taps + 1, dtype=torch.float64, device="cpu") - taps / 2
    wave = torch.cos(n * (math.pi / (2 * subbands)))
    low, high = 0.25 / subbands, 1.0 / subbands
    for _ in range(50):
        middle = (low + high) / 2
        gain = float((prototype(middle, taps) * wave).sum())
        low, high = (middle, high) if gain < math.sqrt(0.5) else (low, middle)
    return low


def filters(subbands: int, bank: Bank) -> tuple[Tensor, Tensor]:
    """The analysis and the synthesis filters, float64, (M, taps + 1) each."""
    public = bank == "public"
    taps = PUBLIC_TAPS if public else taps_of(subbands)
    lowpass = prototype(PUBLIC_CUTOFF if public else exact_cutoff(subbands), taps)
    middle = (taps - 1) / 2 if public else taps / 2
    n = torch.arange(taps + 1, dtype=torch.float64, device="cpu")
    band = torch.arange(subbands, dtype=torch.float64, device="cpu").unsqueeze(1)
    angle = (2 * band + 1) * (math.pi / (2 * subbands)) * (n - middle)
    phase = (1 - 2 * (band % 2)) * (math.pi / 4)
    return 2 * lowpass * torch.cos(angle + phase), 2 * lowpass * torch.cos(angle - phase)


class FilterBank(nn.Module):
    """Splits (B, S) into (B, M, S / M) and joins them again; its filters are no part of the state.

    Args:
        subbands: how many, M.
        bank: ``public`` for public checkpoints, ``exact`` for new training.
    """

    analysis_filter: Tensor
    synthesis_filter: Tensor

    def __init__(self, subbands: int = 4, bank: Bank = "exact") -> None:
        super().__init__()
        self.subbands = subbands
        analysis, synthesis = filters(subbands, bank)
        self.padding = analysis.shape[1] // 2
        self.register_buffer("analysis_filter", analysis.float().unsqueeze(1), persistent=False)
        # Inserting zeros and filtering is laying the filter, read backwards, at each value's place.
        laid = phases(subbands * synthesis.flip(1).float(), subbands)
        self.register_buffer("synthesis_filter", laid, persistent=False)

    def analysis(self, waveform: Tensor) -> Tensor:
        """``waveform`` (B, S) -> sub-bands (B, M, S / M)."""
        return F.conv1d(waveform.unsqueeze(1), self.analysis_filter, stride=self.subbands, padding=self.padding)

    def synthesis(self, subbands: Tensor) -> Tensor:
        """Sub-bands (B, M, S / M) -> waveform (B, S)."""
        size = subbands.shape[2] * self.subbands
        return overlap_add(subbands, self.synthesis_filter).narrow(1, self.padding, size)

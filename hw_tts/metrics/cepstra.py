"""Mel-cepstra of spectral envelopes."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def mel_cepstra(power: Floats, order: int, alpha: float) -> Floats:
    """Warp the cepstra of power spectra to a mel-like scale.

    The minimum-phase cepstrum of each spectrum is transformed by the bilinear all-pass of Oppenheim and Johnson 1972
    ("Discrete representation of signals"), as in Tokuda et al. 1994 ("Mel-generalized cepstral analysis") for a gamma
    of 0. An envelope is smooth already, so no iterations follow.

    Args:
        power: positive, (T, n_fft // 2 + 1).
        order: of the last coefficient, M.
        alpha: of the all-pass, see `mel_alpha`.

    Returns:
        (T, M + 1): the logarithm of the gain, then c_1 to c_M; natural logarithm of the amplitude.
    """
    cepstra = np.fft.irfft(np.log(power), axis=1)[:, : power.shape[1]]
    # Half of a real cepstrum's two sides is what the minimum phase has at 0 and at the middle, twice elsewhere; and
    # the logarithm of the power is twice that of the amplitude.
    cepstra[:, [0, -1]] *= 0.5
    warped: Floats = cepstra @ _warping(power.shape[1], order, alpha)
    return warped


@cache
def _warping(n_bins: int, order: int, alpha: float) -> Floats:
    """(n_bins, order + 1): row n holds the coefficients of ``z^-n`` on the warped axis."""
    rows = np.zeros((n_bins, order + 1))
    rows[0, 0] = 1.0
    for n in range(1, n_bins):
        # z^-1 is (w + alpha) / (1 + alpha w), where w is the delay of the warped axis.
        rows[n] = alpha * rows[n - 1]
        rows[n, 1:] += rows[n - 1, :-1]
        for m in range(1, order + 1):
            rows[n, m] -= alpha * rows[n, m - 1]
    return rows


@cache
def mel_alpha(sample_rate: int) -> float:
    """The all-pass whose phase is nearest to the mel scale: 0.41 at 16 kHz, 0.455 at 22.05 kHz.

    Both scales run from 0 to 1 at half the sample rate; mel is ``log(1 + f / 1000 Hz)`` (Fant 1968), and the distance
    is the sum of squares over equally spaced frequencies.

    Returns:
        In thousandths.
    """
    omega = np.linspace(0.0, np.pi, 1000)
    mel = np.log1p(omega / np.pi * sample_rate / 2000.0)
    mel /= mel[-1]
    alphas = np.arange(0.0, 1.0, 0.001)
    warped = omega + 2.0 * np.arctan2(alphas[:, None] * np.sin(omega), 1.0 - alphas[:, None] * np.cos(omega))
    distance = np.square(warped / np.pi - mel).sum(axis=1)
    return round(float(alphas[distance.argmin()]), 3)

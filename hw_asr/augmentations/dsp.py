"""Signal processing shared by the augmentations: powers, fast convolution, and stretching time without moving pitch."""

import math
from fractions import Fraction

import torch
from torch import Tensor

# Samples in a transform of `convolve`: the fastest of 2048 to 65536 on a CPU for kernels of 0.1 to 0.5 s.
BLOCK = 16384


def power(x: Tensor) -> float:
    """Mean square of (S,)."""
    return float(torch.dot(x, x)) / max(len(x), 1)


def mix(x: Tensor, noise: Tensor, snr: float) -> Tensor:
    """Add noise at a signal-to-noise ratio; silence stays silence, and silent noise adds nothing.

    Args:
        x (Tensor): (S,).
        noise (Tensor): (S,), of any level.
        snr: ratio of the mean powers, in dB.
    """
    noise_power = power(noise)
    if noise_power == 0.0:
        return x
    return x + noise * math.sqrt(power(x) / noise_power / math.pow(10.0, snr / 10.0))


def fast_length(n: int) -> int:
    """The smallest number from ``n`` on without prime factors above 5, at whose length an FFT is fast."""
    best = 1 << max(n - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            quotient = -(-n // three)
            best = min(best, three << max(quotient - 1, 0).bit_length())
            three *= 3
        five *= 5
    return best


def convolve(x: Tensor, kernel: Tensor) -> Tensor:
    """Full linear convolution by overlap-add (Oppenheim and Schafer, "Discrete-Time Signal Processing", 8.7.3).

    Args:
        x (Tensor): (S,).
        kernel (Tensor): (K,), both not empty.

    Returns:
        Tensor: (S + K - 1,).
    """
    n = len(x) + len(kernel) - 1
    # At least two kernels, so that a block's tail reaches into the next block alone.
    size = max(BLOCK, 1 << (2 * len(kernel) - 1).bit_length())
    if n <= size:
        size = fast_length(n)
        whole: Tensor = torch.fft.irfft(torch.fft.rfft(x, size) * torch.fft.rfft(kernel, size), size)
        return whole[:n]
    step = size - len(kernel) + 1
    n_blocks = -(-len(x) // step)
    blocks = torch.nn.functional.pad(x, (0, n_blocks * step - len(x))).view(n_blocks, step)
    filtered = torch.fft.irfft(torch.fft.rfft(blocks, size) * torch.fft.rfft(kernel, size), size)
    out = x.new_zeros(n_blocks + 1, step)
    out[:-1] = filtered[:, :step]
    out[1:, : len(kernel) - 1] += filtered[:, step:]
    return out.view(-1)[:n]


def stretch(x: Tensor, factor: Fraction, n_fft: int) -> Tensor:
    """Make a signal longer without moving its pitch: phase vocoder (Flanagan and Golden, 1966).

    Frames are read at every ``1 / factor`` of a hop and written at every hop. Each advances the phase of the last one
    written by what the signal's own phase advances in one hop, so that phases are products of unit numbers.

    Args:
        x (Tensor): (S,), at least ``n_fft`` samples.
        factor: length of the result in lengths of ``x``.
        n_fft: of the transform, in samples; the hop is a quarter of it.

    Returns:
        Tensor: about (S * factor,), to a hop.
    """
    window = torch.hann_window(n_fft, device=x.device)
    hop = n_fft // 4
    spectrum = torch.stft(x, n_fft, hop, window=window, pad_mode="constant", return_complex=True).T
    magnitude = spectrum.abs()
    # A bin without energy has no phase; any unit number keeps the product from becoming zero.
    unit = torch.where(magnitude > 0, spectrum.sgn(), 1.0)
    n_frames = int((len(spectrum) - 1) * factor) + 1
    position = torch.arange(n_frames, dtype=torch.float64) / float(factor)
    left = position.floor().long().clamp(max=len(spectrum) - 2)
    weight = (position - left).to(x.dtype)[:, None]
    phase = torch.cat([unit[:1], (unit[1:] * unit[:-1].conj())[left[:-1]]]).cumprod(dim=0)
    frames = torch.lerp(magnitude[left], magnitude[left + 1], weight) * phase
    return torch.istft(frames.T, n_fft, hop, window=window)

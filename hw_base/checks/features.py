"""What every kind of features keeps to."""

import math

import torch
from torch import Tensor

from hw_base.audio.mel import LogMelSpectrogram
from hw_base.checks import samples
from hw_base.checks.contract import Candidate, Contract, Outcome, expect, expect_close
from hw_base.checks.table import declare

FEATURES: Contract[Candidate] = Contract("features")


def check_features(candidate: Candidate) -> list[Outcome]:
    """All properties of a spectrogram: waveform (S,) -> (F, T)."""
    return FEATURES.check(candidate)


def _lengths(features: LogMelSpectrogram) -> list[int]:
    first, hop = features.min_samples, features.hop_length
    return [*range(first, first + 2 * hop + 2, max(1, hop // 7)), 10 * hop - 1, 10 * hop, 10 * hop + 1, 16001]


@FEATURES.property("frames() does not count as the transform does: centered frames, or an incomplete last one")
def frames_are_counted_right(candidate: Candidate) -> None:
    features: LogMelSpectrogram = candidate.build()
    for n_samples in [n for n in _lengths(features) if n >= features.min_samples]:
        shape = tuple(features(samples.waveform(n_samples, features.sample_rate)).shape)
        expected = (features.n_mels, int(features.frames(n_samples)))
        expect(shape == expected, f"(n_mels, frames({n_samples})) = {expected}", shape)


@FEATURES.property("the logarithm of zero, or a division by the deviation of silence")
def silence_and_extremes_are_finite(candidate: Candidate) -> None:
    features: LogMelSpectrogram = candidate.build()
    n_samples = max(4000, features.min_samples)
    click = torch.zeros(n_samples)
    click[n_samples // 2] = 1.0
    loud = samples.waveform(n_samples, features.sample_rate).mul(100).clamp(-1, 1)
    shortest = samples.waveform(features.min_samples, features.sample_rate)
    for name, x in {"silence": torch.zeros(n_samples), "a click": click, "clipped": loud, "shortest": shortest}.items():
        expect(torch.isfinite(features(x)).all(), f"finite features of {name}", "NaN or infinity")


@FEATURES.property("statistics or reflection reach into the padding of the batch")
def an_utterance_alone_equals_itself_in_a_padded_batch(candidate: Candidate) -> None:
    features: LogMelSpectrogram = candidate.build()
    lengths = torch.tensor([9000, features.min_samples, 5001, 16000])
    padded = torch.full((4, 17000), 0.7)
    for row, n in enumerate(lengths.tolist()):
        padded[row, :n] = samples.waveform(n, features.sample_rate, row)
    batch = features(padded, lengths)
    for row, n in enumerate(lengths.tolist()):
        alone = features(padded[row, :n])
        expect_close(batch[row, :, : alone.shape[1]], alone, f"utterance of {n} samples", 2e-3)
        rest = batch[row, :, alone.shape[1] :]
        expect(not rest.any(), "zeros in the padding", f"up to {float(rest.abs().max()) if rest.numel() else 0:.3g}")


@FEATURES.property("a dither, dropout or other randomness, or the waveform is changed in place")
def the_same_waveform_gives_the_same_features(candidate: Candidate) -> None:
    features: LogMelSpectrogram = candidate.build()
    x = samples.waveform(8000, features.sample_rate)
    before = x.clone()
    first = features(x)
    expect(torch.equal(x, before), "the waveform left as it is", "it was changed in place")
    expect(torch.equal(first, features(x)), "equal features at the second call", "other ones")


@FEATURES.property("the spectrogram is not computed in float32 under autocast")
def features_are_single_precision(candidate: Candidate) -> None:
    features: LogMelSpectrogram = candidate.build()
    x = samples.waveform(8000, features.sample_rate)
    with torch.autocast("cpu", torch.bfloat16):
        found = features(x)
    expect(found.dtype == torch.float32, "float32", found.dtype)
    expect_close(found, features(x), "features under autocast", 1e-3)


@FEATURES.property("the filters are in another order, or bins and frames are swapped")
def higher_tones_lie_in_higher_bins(candidate: Candidate) -> None:
    features: LogMelSpectrogram = candidate.build()
    n = features.sample_rate
    time = torch.arange(n) / n
    top = (features.f_max or n / 2) * 0.8
    peaks = []
    for hz in torch.logspace(math.log10(top / 8), math.log10(top), 4).tolist():
        # Both tones in turn, so that a normalization over time leaves the difference.
        x = torch.where(time < 0.5, torch.sin(2 * math.pi * hz * time), 0.01 * _noise(n))
        spectrogram = features(x)
        half = spectrogram.shape[1] // 2
        peaks.append(int((spectrogram[:, : half - 5].mean(1) - spectrogram[:, half + 5 :].mean(1)).argmax()))
    expect(peaks == sorted(set(peaks)), "the strongest bin to rise with the tone", peaks)


def _noise(n: int) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(0))


declare("features", check_features, LogMelSpectrogram)

"""Wrong copies of the parts of synthesis: each is caught, by the property that it breaks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw_base.checks import Candidate, broken
from hw_base.checks.losses import LOSS
from hw_tts.alignment.search import search_path
from hw_tts.checks.alignment import ALIGNER, REGULATOR
from hw_tts.checks.losses import _inputs
from hw_tts.checks.metrics import check_metric
from hw_tts.checks.positions import POSITIONS
from hw_tts.checks.vocoders import VOCODER
from hw_tts.losses.acoustic import SpectrogramLoss
from hw_tts.metrics.spectral import LogMelL1
from hw_tts.models.blocks.positions import SinusoidalPositions
from hw_tts.models.blocks.regulator import expand
from hw_tts.vocoders.griffin_lim import GriffinLim


class Regulator(nn.Module):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, hidden, durations, max_frames=None):
        return expand(hidden, durations, max_frames)


class DropsZeros(Regulator):
    """Tokens of no frames are taken out and the others move up to wrong vectors."""

    def forward(self, hidden, durations, max_frames=None):
        kept = torch.zeros_like(durations)
        for row, out in zip(durations, kept, strict=True):
            used = row[row > 0]
            out[: len(used)] = used
        return expand(hidden, kept, max_frames)


class AtLeastOneFrame(Regulator):
    def forward(self, hidden, durations, max_frames=None):
        return expand(hidden, durations.clamp(min=1), max_frames)


class HalfPrecisionSums(Regulator):
    def forward(self, hidden, durations, max_frames=None):
        if hidden.dtype != torch.bfloat16:
            return expand(hidden, durations, max_frames)
        ends = durations.bfloat16().cumsum(1).long()
        rough = torch.diff(ends, dim=1, prepend=torch.zeros_like(ends[:, :1])).clamp(min=0)
        return expand(hidden, rough, max_frames)


class NeverCuts(Regulator):
    def forward(self, hidden, durations, max_frames=None):
        return expand(hidden, durations)


class DetachedFrames(Regulator):
    def forward(self, hidden, durations, max_frames=None):
        expanded, frames = expand(hidden.detach(), durations, max_frames)
        return expanded + 0 * hidden.sum(), frames


REGULATORS = {
    DropsZeros: "every token lasts its frames",
    AtLeastOneFrame: "frames are the sums of durations",
    HalfPrecisionSums: "half precision misplaces nothing",
    NeverCuts: "what lies beyond max frames is cut off",
    DetachedFrames: "the gradient counts every frame",
}


@pytest.mark.parametrize(("mutant", "name"), REGULATORS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_regulator_is_caught(mutant, name):
    assert broken(REGULATOR.check(Candidate("Regulator", Regulator))) == []
    assert REGULATOR[name].check(Candidate(mutant.__name__, mutant)).holds is False


class Search:
    def __init__(self) -> None:
        pass

    def __call__(self, scores, frames, tokens):
        return search_path(scores, frames, tokens)


class ArgmaxPerFrame(Search):
    def __call__(self, scores, frames, tokens):
        inside = torch.arange(scores.shape[2]) < tokens[:, None]
        best = scores.masked_fill(~inside[:, None], -1e9).argmax(2)
        path = F.one_hot(best, scores.shape[2]).to(scores.dtype)
        return path * (torch.arange(scores.shape[1]) < frames[:, None])[..., None]


class OneFrameLate(Search):
    def __call__(self, scores, frames, tokens):
        return search_path(scores.roll(1, 1), frames, tokens)


class EndsEarly(Search):
    def __call__(self, scores, frames, tokens):
        return search_path(scores, frames, (tokens - 1).clamp(min=1))


class LengthsOfTheBatch(Search):
    def __call__(self, scores, frames, tokens):
        return search_path(scores, torch.full_like(frames, scores.shape[1]), tokens)


SEARCHES = {
    ArgmaxPerFrame: "the path is monotonic",
    OneFrameLate: "the path is the best of all",
    EndsEarly: "every token is visited",
    LengthsOfTheBatch: "the path is monotonic",
}


@pytest.mark.parametrize(("mutant", "name"), SEARCHES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_search_is_caught(mutant, name):
    assert broken(ALIGNER.check(Candidate("Search", Search))) == []
    assert ALIGNER[name].check(Candidate(mutant.__name__, mutant)).holds is False


class OffByOnePositions(SinusoidalPositions):
    """The first two frames have one position."""

    def forward(self, x, length):
        added = super().forward(torch.zeros_like(x), length)
        return x + torch.cat([added[:, :1], added[:, :-1]], 1)


class CountedFromTheEnd(SinusoidalPositions):
    def forward(self, x, length):
        return x + super().forward(torch.zeros_like(x), length).flip(1)


class EvenWidthsOnly(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x, length):
        rates = torch.arange(0, self.width, 2) / self.width
        angle = torch.arange(x.shape[1])[:, None] / 10000**rates
        added = torch.zeros(x.shape[1], self.width)
        added[:, 0::2], added[:, 1::2] = angle.sin(), angle.cos()
        return x + added


class Multiplied(SinusoidalPositions):
    def forward(self, x, length):
        added = super().forward(torch.zeros_like(x), length)
        return x * (1 + added) + added


class WrapsAround(SinusoidalPositions):
    def forward(self, x, length):
        added = super().forward(torch.zeros_like(x), length)
        return x + added[:, torch.arange(x.shape[1]) % 40]


ENCODINGS = {
    OffByOnePositions: "positions differ from each other",
    CountedFromTheEnd: "a longer sequence begins like a shorter one",
    EvenWidthsOnly: "odd widths work",
    Multiplied: "positions are added to the input",
    WrapsAround: "lengths past the maximum work or are refused",
}


@pytest.mark.parametrize(("mutant", "name"), ENCODINGS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_wrong_positions_are_caught(mutant, name):
    assert POSITIONS[name].check(Candidate(mutant.__name__, mutant)).holds is False


class OneFrameLonger(GriffinLim):
    def forward(self, spectrogram, spectrogram_length=None):
        return F.pad(super().forward(spectrogram, spectrogram_length), (0, self.hop_length))


class PaddingIsHeard(GriffinLim):
    def forward(self, spectrogram, spectrogram_length=None):
        return super().forward(spectrogram)


class RandomPhase(GriffinLim):
    def forward(self, spectrogram, spectrogram_length=None):
        return super().forward(spectrogram, spectrogram_length) * torch.rand(())


VOCODERS = {
    OneFrameLonger: "every frame gives hop length samples",
    PaddingIsHeard: "what follows an utterance is silent",
    RandomPhase: "the same spectrogram gives the same waveform",
}


@pytest.mark.parametrize(("mutant", "name"), VOCODERS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_vocoder_is_caught(mutant, name):
    assert VOCODER[name].check(Candidate(mutant.__name__, mutant)).holds is False


class MeanOverPadding(SpectrogramLoss):
    def forward(self, spectrogram, spectrogram_length, **batch):
        whole = torch.full_like(spectrogram_length, spectrogram.shape[-1])
        return super().forward(spectrogram, whole, **batch)


def test_a_loss_that_counts_padding_is_caught():
    outcomes = LOSS.check(lambda: _inputs(Candidate("MeanOverPadding", MeanOverPadding)))
    assert broken(outcomes) == ["padding has no part"]


class MeanOfMeans(LogMelL1):
    """Forgets what it added before."""

    def update(self, pair):
        self.reset()
        super().update(pair)


def test_a_metric_of_the_last_pair_alone_is_caught():
    assert "the figure does not depend on the batches" in broken(check_metric(Candidate("MeanOfMeans", MeanOfMeans)))

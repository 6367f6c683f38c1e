"""Wrong copies of the components of recognition: each is caught, by the property that it breaks."""

import itertools
import math
import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hw_asr.augmentations import Gain, SpeedPerturbation
from hw_asr.checks import check_augmentation, check_loss, check_model
from hw_asr.checks.decoders import DECODER, best_alignments, probabilities
from hw_asr.checks.models import MODEL
from hw_asr.decoders import GreedyDecoder, Hypothesis, ReferenceBeamSearch
from hw_asr.decoders import reference as reference_search
from hw_asr.losses.ctc import CTCLoss
from hw_asr.models import DeepSpeech2
from hw_base.checks import Candidate, broken
from hw_base.nn.losses import SumAndCount


class Shadow(DeepSpeech2):
    """A model whose arguments are those of the right one, so that a config could name it."""

    def __init__(self, n_mels: int, n_tokens: int) -> None:
        super().__init__(
            n_mels, n_tokens, conv_channels=(4,), kernel_sizes=((5, 3),), n_layers=1, n_hidden=24, dropout=0.0
        )


class LengthsOffByOne(Shadow):
    def output_lengths(self, length):
        return super().output_lengths(length) + 1


class LengthsForgetTheStride(Shadow):
    def output_lengths(self, length):
        return length


class BatchAndTimeSwapped(Shadow):
    def forward(self, **batch):
        out = super().forward(**batch)
        return out | {"log_probs": out["log_probs"].transpose(0, 1)}


class SoftmaxOverTime(Shadow):
    def forward(self, **batch):
        out = super().forward(**batch)
        return out | {"log_probs": out["log_probs"].log_softmax(1)}


class PaddingLeaks(Shadow):
    def forward(self, spectrogram, spectrogram_length, **batch):
        whole = spectrogram - spectrogram.mean(dim=2, keepdim=True)
        return super().forward(spectrogram=whole, spectrogram_length=spectrogram_length)


class MaskOnTheWrongAxis(Shadow):
    def forward(self, spectrogram, spectrogram_length, **batch):
        bins = torch.arange(spectrogram.shape[1]) < spectrogram_length[:, None]
        return super().forward(
            spectrogram=spectrogram * bins[..., None] - spectrogram.mean(), spectrogram_length=spectrogram_length
        )


class DropoutInEvaluation(Shadow):
    def forward(self, spectrogram, **batch):
        return super().forward(spectrogram=F.dropout(spectrogram, 0.1), **batch)


class BatchNormOverPadding(Shadow):
    def __init__(self, n_mels: int, n_tokens: int) -> None:
        super().__init__(n_mels, n_tokens)
        self.first = nn.BatchNorm1d(n_mels)

    def forward(self, spectrogram, spectrogram_length, **batch):
        return super().forward(spectrogram=self.first(spectrogram), spectrogram_length=spectrogram_length)


class LayersInAList(Shadow):
    def __init__(self, n_mels: int, n_tokens: int) -> None:
        super().__init__(n_mels, n_tokens)
        self.extra = [nn.Linear(n_mels, n_mels)]

    def forward(self, spectrogram, **batch):
        return super().forward(spectrogram=self.extra[0](spectrogram.transpose(1, 2)).transpose(1, 2), **batch)


class UnusedParameter(Shadow):
    def __init__(self, n_mels: int, n_tokens: int) -> None:
        super().__init__(n_mels, n_tokens)
        self.scale = nn.Parameter(torch.ones(n_mels))


class TimeReversed(Shadow):
    def forward(self, spectrogram, spectrogram_length, **batch):
        rows = zip(spectrogram, spectrogram_length, strict=True)
        back = torch.stack([torch.cat([x[:, :n].flip(1), x[:, n:]], 1) for x, n in rows])
        return super().forward(spectrogram=back, spectrogram_length=spectrogram_length)


class Detached(Shadow):
    def forward(self, **batch):
        out = super().forward(**batch)
        bias = nn.Parameter(torch.zeros(()))
        return out | {"log_probs": out["log_probs"].detach() + 0 * bias}


class OutsideTheGroups(Shadow):
    parameter_group_names = ("model",)

    def parameter_groups(self):
        return {"model": self.rnns}


class IgnoresTheInput(Shadow):
    def forward(self, spectrogram, **batch):
        return super().forward(spectrogram=spectrogram * 0, **batch)


class NeverSure(Shadow):
    def forward(self, **batch):
        out = super().forward(**batch)
        return out | {"log_probs": (0.2 * out["log_probs"].exp() + 0.8 / out["log_probs"].shape[-1]).log()}


class HalfPrecisionOverflows(Shadow):
    def forward(self, spectrogram, **batch):
        small = spectrogram.to(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32)
        return super().forward(spectrogram=(small * 1e5 * 1e-5).float(), **batch)


MODELS = {
    LengthsOffByOne: "output lengths equal the real ones",
    LengthsForgetTheStride: "output lengths equal the real ones",
    BatchAndTimeSwapped: "outputs have their names and shapes",
    SoftmaxOverTime: "posteriors are normalized over the vocabulary",
    PaddingLeaks: "an utterance alone equals itself in a padded batch",
    MaskOnTheWrongAxis: "an utterance alone equals itself in a padded batch",
    DropoutInEvaluation: "evaluation draws nothing at random",
    BatchNormOverPadding: "training does not depend on the padding",
    LayersInAList: "the state makes another model equal",
    UnusedParameter: "a gradient reaches every parameter",
    TimeReversed: "the order of time is kept",
    Detached: "a gradient reaches every parameter",
    OutsideTheGroups: "every parameter is in one group",
    IgnoresTheInput: "the order of time is kept",
    NeverSure: "one batch is learned",
    HalfPrecisionOverflows: "half precision is finite",
}


@pytest.mark.parametrize(("mutant", "name"), MODELS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_model_is_caught(mutant, name):
    assert MODEL[name].check(Candidate(mutant.__name__, mutant)).holds is False


def test_the_model_that_the_mutants_come_from_is_right():
    assert broken(check_model(Candidate("Shadow", Shadow))) == []


class MaxInsteadOfLogAdd(ReferenceBeamSearch):
    def _decode(self, frames):
        before, reference_search.log_add = reference_search.log_add, max
        try:
            return super()._decode(frames)
        finally:
            reference_search.log_add = before


class RepeatsBeforeBlanks(GreedyDecoder):
    def __call__(self, log_probs, log_probs_length):
        found = super().__call__(log_probs, log_probs_length)
        return [[self._merged(h) for h in one] for one in found]

    def _merged(self, h):
        tokens = tuple(token for token, _ in itertools.groupby(h.tokens))
        return Hypothesis(self.text_encoder.decode(tokens), tokens, h.score, h.acoustic_score)


class LengthsIgnored(GreedyDecoder):
    def __call__(self, log_probs, log_probs_length):
        return super().__call__(log_probs, torch.full_like(log_probs_length, log_probs.shape[1]))


class BestFirstReversed(ReferenceBeamSearch):
    def _decode(self, frames):
        return super()._decode(frames)[::-1]


class TextOfShiftedIds(GreedyDecoder):
    def __call__(self, log_probs, log_probs_length):
        return [[self._shifted(h) for h in one] for one in super().__call__(log_probs, log_probs_length)]

    def _shifted(self, h):
        text = self.text_encoder.decode([1 + token % (len(self.text_encoder) - 1) for token in h.tokens])
        return Hypothesis(text, h.tokens, h.score, h.acoustic_score)


class LmAlwaysWeighs(ReferenceBeamSearch):
    def __init__(self, text_encoder, lm: str | None = None, lm_weight: float = 0.5) -> None:
        super().__init__(text_encoder, 10, 1, lm, lm_weight + 3.0)


DECODERS = {
    MaxInsteadOfLogAdd: "scores are log probabilities",
    RepeatsBeforeBlanks: "repeats collapse and blanks keep them apart",
    LengthsIgnored: "a batch gives what its utterances give alone",
    BestFirstReversed: "the n best are sorted and distinct",
    TextOfShiftedIds: "texts are those of the tokens",
    LmAlwaysWeighs: "a language model without weight changes nothing",
}


@pytest.mark.parametrize(("mutant", "name"), DECODERS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_decoder_is_caught(mutant, name):
    assert DECODER[name].check(Candidate(mutant.__name__, mutant)).holds is False


class CutsSilently(Gain):
    def apply(self, x, generator):
        return super().apply(x, generator)[..., : x.shape[-1] - x.shape[-1] // 10]


class HiddenRandomness(Gain):
    def apply(self, x, generator):
        return x * random.uniform(0.5, 1.0)


class InPlace(Gain):
    def apply(self, x, generator):
        return x.mul_(super().apply(torch.ones(()), generator))


class DividesBySilence(Gain):
    def apply(self, x, generator):
        return super().apply(x / x.abs().max(), generator)


class DecibelsAsFactor(Gain):
    def apply(self, x, generator):
        return x * 10.0 ** (6.0 + float(torch.rand((), generator=generator)))


class MasksEverything(Gain):
    def apply(self, x, generator):
        return x * 0.0


class AlwaysTheSame(Gain):
    def apply(self, x, generator):
        return x * 0.7


AUGMENTATIONS = {
    CutsSilently: "the length is as it says",
    HiddenRandomness: "the same generator gives the same result",
    InPlace: "the signal is not changed in place",
    DividesBySilence: "silence and single samples stay finite",
    DecibelsAsFactor: "the level is bounded",
    MasksEverything: "speech is left",
    AlwaysTheSame: "other generators give other results",
}


@pytest.mark.parametrize(("mutant", "name"), AUGMENTATIONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_augmentation_is_caught(mutant, name):
    assert name in broken(check_augmentation(Candidate(mutant.__name__, mutant)))


def test_an_augmentation_that_changes_the_length_says_so():
    assert not broken(check_augmentation(Candidate("SpeedPerturbation", SpeedPerturbation)))
    mutant = type("Claims", (SpeedPerturbation,), {"keeps_length": True})
    assert "the length is as it says" in broken(check_augmentation(Candidate("Claims", mutant)))


class CountsPadding(CTCLoss):
    def forward(self, log_probs, log_probs_length, **batch):
        longest = torch.full_like(log_probs_length, log_probs.shape[1])
        return super().forward(log_probs, longest, **batch)


class BlankIsTheLastToken(CTCLoss):
    def forward(self, log_probs, **batch):
        return super().forward(log_probs.roll(1, -1), **batch)


class DetachedLoss(CTCLoss):
    def forward(self, log_probs, **batch):
        mean = super().forward(log_probs.detach(), **batch)
        return SumAndCount(mean.total + 0 * log_probs.sum(), mean.count)


class SilenceForNoTranscript(CTCLoss):
    def forward(self, *args, text=None, **batch):
        return super().forward(*args, **batch)


LOSSES = {
    CountsPadding: "padding has no part",
    BlankIsTheLastToken: "the blank is token 0",
    DetachedLoss: "the gradient equals differences",
    SilenceForNoTranscript: "an utterance without transcript has no part",
}


@pytest.mark.parametrize(("mutant", "name"), LOSSES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_loss_is_caught(mutant, name):
    assert name in broken(check_loss(Candidate(mutant.__name__, mutant)))


def test_texts_whose_best_alignments_are_equally_good_tie_for_a_search_of_single_alignments():
    """(1) has three alignments, (2, 1) one, and each has one of 0.16: such a search may return either."""
    log_probs = torch.tensor([[0.2, 0.4, 0.4], [0.4, 0.4, 0.2]]).log()
    best, total = best_alignments(log_probs), probabilities(log_probs)
    assert best[(1,)] == pytest.approx(best[(2, 1)]) == pytest.approx(math.log(0.16))
    assert total[(2, 1)] == pytest.approx(math.log(0.16))
    assert total[(1,)] == pytest.approx(math.log(0.40))


class TakesTheWorst(GreedyDecoder):
    """Claims to approximate, and loses by any measure."""

    def __init__(self, text_encoder, beam_size: int = 4) -> None:
        super().__init__(text_encoder)

    def __call__(self, log_probs, log_probs_length):
        return super().__call__((-log_probs.clamp(min=-30)).log_softmax(-1), log_probs_length)


def test_an_approximation_that_is_worse_than_the_best_path_by_both_measures_is_caught():
    name = "a beam is not worse than the best path"
    assert DECODER[name].check(Candidate("TakesTheWorst", TakesTheWorst)).holds is False

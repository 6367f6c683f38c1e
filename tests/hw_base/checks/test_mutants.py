"""Wrong copies of what both tasks share: each is caught, by the property that it breaks."""

import pytest
import torch

from hw_asr.data.collate import ASRCollate
from hw_asr.metrics import WER
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.checks import Candidate
from hw_base.checks.collates import COLLATE
from hw_base.checks.datasets import DATASET
from hw_base.checks.features import FEATURES
from hw_base.checks.metrics import EDIT_RATE, check_error_rate
from hw_base.checks.samples import audio_folder
from hw_base.checks.text_encoders import TEXT_ENCODER, Trial
from hw_base.data.dataset import BaseDataset, Record


class BlankIsALetter(CharTextEncoder):
    def encode(self, text):
        return [token - 1 for token in super().encode(text)]


class LosesSilently(CharTextEncoder):
    def unknown(self, text):
        return []


class ForgetsItsAlphabet(CharTextEncoder):
    def fit(self, texts):
        self._set("".join(sorted({c for text in texts for c in self.normalize(text)}, reverse=True)))

    def state_dict(self):
        return {"alphabet": CharTextEncoder().alphabet}


class SpacesStay(CharTextEncoder):
    def encode(self, text):
        return [self._ids[c] for c in text.lower() if c in self._ids]


ENCODERS = {
    BlankIsALetter: "ids lie in the vocabulary and leave the blank alone",
    LosesSilently: "what is left out is reported",
    ForgetsItsAlphabet: "the state makes another encoder equal",
    SpacesStay: "decoding gives back the normalized text",
}


@pytest.mark.parametrize(("mutant", "name"), ENCODERS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_text_encoder_is_caught(mutant, name):
    assert TEXT_ENCODER[name].check(Trial(Candidate(mutant.__name__, mutant))).holds is False


class MeanOfUtterances(WER):
    """The mean of the utterances' rates, a common mistake."""

    sum_names = ("rates", "utterances")

    def update(self, references, hypotheses):
        for reference, hypothesis in zip(references, hypotheses, strict=True):
            one = WER()
            one.update([reference], [hypothesis])
            self.totals += torch.tensor([one.compute(), 1.0], dtype=torch.float64)

    def compute(self):
        return float(self.totals[0] / self.totals[1].clamp(min=1))


def test_a_rate_that_is_a_mean_of_utterances_is_caught():
    outcome = EDIT_RATE["the rate is that of the corpus"].check(Candidate("MeanOfUtterances", MeanOfUtterances))
    assert outcome.holds is False
    assert "/ 15 units" in outcome.expected
    assert "mean of the utterances" in outcome.cause


class NeverForgets(WER):
    def reset(self):
        pass


def test_a_reset_that_forgets_nothing_is_caught():
    outcomes = check_error_rate(Candidate("NeverForgets", NeverForgets))
    assert [o.name for o in outcomes if o.holds is False] == ["reset forgets everything"]


class Transposes(ASRCollate):
    def __call__(self, items):
        batch = super().__call__(items)
        return batch | {"spectrogram": batch["spectrogram"].transpose(1, 2)}


class LengthsOfThePadded(ASRCollate):
    def __call__(self, items):
        batch = super().__call__(items)
        return batch | {"tokens_length": torch.full_like(batch["tokens_length"], batch["tokens"].shape[1])}


class Sorts(ASRCollate):
    def __call__(self, items):
        batch = super().__call__(items)
        return batch | {"text": sorted(batch["text"], key=len)}


class PadsWithOnes(ASRCollate):
    def __init__(self) -> None:
        super().__init__()
        self.pad_values["tokens"] = 1


COLLATES = {
    Transposes: "every item stands in its row",
    LengthsOfThePadded: "lengths are those of the items",
    Sorts: "names and texts stay with their items",
    PadsWithOnes: "the padding is zero",
}


@pytest.mark.parametrize(("mutant", "name"), COLLATES.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_collate_is_caught(mutant, name):
    assert COLLATE[name].check(Candidate(mutant.__name__, mutant)).holds is False


class FramesOffByOne(LogMelSpectrogram):
    def frames(self, n_samples):
        return super().frames(n_samples) - 1


class LogOfZero(LogMelSpectrogram):
    def _log_mel(self, energy):
        return torch.matmul(self.filters, energy).log()


class StatisticsOfThePadding(LogMelSpectrogram):
    def _normalized(self, log_mel, mask):
        normal = super()._normalized(log_mel, None)
        return normal if mask is None else normal.masked_fill(~mask, 0.0)


class Dithers(LogMelSpectrogram):
    def forward(self, waveform, waveform_length=None):
        return super().forward(waveform + 1e-3 * torch.randn_like(waveform), waveform_length)


FEATURE_MUTANTS = {
    FramesOffByOne: "frames are counted right",
    LogOfZero: "silence and extremes are finite",
    StatisticsOfThePadding: "an utterance alone equals itself in a padded batch",
    Dithers: "the same waveform gives the same features",
}


@pytest.mark.parametrize(("mutant", "name"), FEATURE_MUTANTS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_wrong_features_are_caught(mutant, name):
    assert FEATURES[name].check(Candidate(mutant.__name__, mutant)).holds is False


class Folder(BaseDataset):
    scale, name_of = 1.0, staticmethod(lambda path: path.stem)

    def __init__(self, root: str) -> None:
        from pathlib import Path

        paths = sorted(Path(root).glob("*.wav"))
        seconds = [(path.stat().st_size - 44) / 2 / 16000 * self.scale for path in paths]
        super().__init__([Record(self.name_of(p), str(p), s, "a text") for p, s in zip(paths, seconds, strict=True)])


class Milliseconds(Folder):
    scale = 1000.0


class IdsArePaths(Folder):
    name_of = staticmethod(str)


class OneIdForAll(Folder):
    name_of = staticmethod(lambda path: "same")


DATASETS = {
    Milliseconds: "durations are true within a frame",
    IdsArePaths: "ids can be file names",
    OneIdForAll: "ids are unique",
}


@pytest.mark.parametrize(("mutant", "name"), DATASETS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_wrong_dataset_is_caught(mutant, name, tmp_path):
    root = {"root": str(audio_folder(tmp_path))}
    assert DATASET[name].check(Candidate("Folder", Folder, root)).holds is True
    assert DATASET[name].check(Candidate(mutant.__name__, mutant, root)).holds is False

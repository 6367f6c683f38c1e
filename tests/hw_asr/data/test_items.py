import numpy as np
import pytest

from hw_asr.augmentations.rate import SpeedPerturbation
from hw_asr.augmentations.spectrogram import SpecAugment
from hw_asr.augmentations.waveform import Gain
from hw_asr.data.items import ItemMaker
from hw_asr.text_encoders.characters import CharTextEncoder
from hw_base.audio.mel import LogMelSpectrogram
from hw_base.data.cache import Room
from hw_base.data.dataset import BaseDataset, Record
from hw_base.data.split import Split
from tests.conftest import same

soundfile = pytest.importorskip("soundfile")
RATE, EPOCHS, N = 8000, 6, 4


class CountingFeatures(LogMelSpectrogram):
    """Counts how often it is asked."""

    calls = 0

    def forward(self, waveform, waveform_length=None):
        self.calls += waveform.dim() == 1
        return super().forward(waveform, waveform_length)


@pytest.fixture
def split_of(tmp_path):
    records = []
    for i in range(N):
        path = tmp_path / f"{i}.wav"
        soundfile.write(path, np.random.default_rng(i).uniform(-0.5, 0.5, 4000 + 111 * i), RATE)
        records.append(Record(f"u{i}", str(path), (4000 + 111 * i) / RATE, "a b"))

    def make(*augmentations, evaluation=False):
        features = CountingFeatures(sample_rate=RATE, n_fft=256, win_length=200, hop_length=80, n_mels=20)
        maker = ItemMaker(features, CharTextEncoder(), augmentations)
        return Split("val" if evaluation else "train", [BaseDataset(records)], maker, RATE, evaluation=evaluation)

    return make


def items_of(split):
    return [split[epoch, i] for epoch in range(EPOCHS) for i in range(N)]


SPEED = {"factors": [0.9, 1.0, 1.1]}
CASES = {
    "nothing random": ([], 1),
    "masks alone": ([SpecAugment(p=0.7)], 1),
    "speeds and masks": ([SpeedPerturbation(**SPEED), SpecAugment(n_time_masks=2)], 3),
    "speeds without 1, sometimes": ([SpeedPerturbation([0.9, 1.1], p=0.6)], 3),
    "the same speed twice": ([SpeedPerturbation([1.0, 1.1, 1.1])], 2),
}


@pytest.mark.parametrize("case", CASES)
def test_spectrograms_are_kept_at_each_speed_and_items_stay_the_same(split_of, case):
    augmentations, variants = CASES[case]
    expected = items_of(split_of(*augmentations))
    split = split_of(*augmentations)
    split.keep("memory", Room())
    assert len(split.cache.kept) == 1 + variants
    assert same(items_of(split), expected)
    assert variants * N >= split.make_item.features.calls > (variants - 1) * N * 0.5
    calls = split.make_item.features.calls
    assert same(items_of(split), expected)
    assert split.make_item.features.calls == calls


@pytest.mark.parametrize(
    "others", [[Gain(p=0.5)], [Gain(p=0.5), SpeedPerturbation(**SPEED)], [SpeedPerturbation()] * 2]
)
def test_spectrograms_that_differ_each_time_are_not_kept(split_of, others):
    expected = items_of(split_of(*others))
    split = split_of(*others)
    split.keep("memory", Room())
    assert len(split.cache.kept) == 1
    assert same(items_of(split), expected)
    assert split.make_item.features.calls == EPOCHS * N


def test_an_evaluation_split_computes_each_spectrogram_once(split_of):
    split = split_of(evaluation=True)
    split.keep("memory", Room())
    items_of(split)
    assert split.make_item.features.calls == N


def test_a_file_on_disk_is_for_these_features_and_speeds_alone(split_of, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for augmentations in ([], [SpeedPerturbation(**SPEED)], [SpeedPerturbation([0.9, 1.0])]):
        split_of(*augmentations).keep("disk", Room())
    other = split_of()
    other.make_item.features.eps = 1e-3
    other.keep("disk", Room())
    assert len(list((tmp_path / "cache" / "hw_speech" / "audio").iterdir())) == 4

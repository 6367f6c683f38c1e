"""What the doctor finds out about synthesis: speakers, cached features, normalization, the vocoder."""

import random
from dataclasses import replace

import pytest
import torch

from hw_base.config.resolve import resolve
from hw_base.runs.experiment import Experiment
from hw_tts.checks.before_training import speakers_belong
from hw_tts.features.acoustic import TTSFeatures
from hw_tts.vocoders.griffin_lim import GriffinLim
from tests.faults_of_training.faults import SPEAKERS


@pytest.fixture
def trainer():
    return Experiment(resolve(SPEAKERS, []), torch.device("cpu")).trainer(None)


def errors(trainer, cheap=False):
    return [
        one.what for one in trainer.setup.task.examine(trainer, trainer.loader.sample(4), cheap) if one.level != "ok"
    ]


def test_a_good_run_has_no_finding_and_is_left_as_it_was(trainer):
    before = torch.get_rng_state()
    assert errors(trainer) == []
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None for p in trainer.model.parameters())


def test_speakers_that_are_shuffled_are_found(trainer):
    split, task = trainer.loader.split, trainer.setup.task
    assert [one.level for one in speakers_belong(split, task)] == ["ok"]
    names = [record.speaker for record in split.records]
    random.Random(0).shuffle(names)
    split.records = [replace(record, speaker=name) for record, name in zip(split.records, names, strict=True)]
    (found,) = speakers_belong(split, task)
    assert found.what == "train: speakers seem to belong to other audio"
    split.records = [replace(record, speaker="one") for record in split.records]
    assert list(speakers_belong(split, task)) == []


def test_a_cache_of_other_features_is_found(trainer):
    trainer.setup.task.features.power = 2
    assert errors(trainer) == ["cached features are not those of the audio"]


def test_a_vocoder_of_other_constants_is_found(trainer):
    trainer.vocoder = GriffinLim(TTSFeatures(mel_scale="htk", norm=None, f_max=None))
    assert errors(trainer) == ["the vocoder does not understand the features"]
    assert errors(trainer, cheap=True) == []


@pytest.mark.parametrize("name", ["pitch", "energy"])
def test_statistics_of_other_data_are_found(trainer, name):
    getattr(trainer.model, name).mean.fill_(-50.0)
    assert errors(trainer, cheap=True) == [f"{name} is not normalized"]

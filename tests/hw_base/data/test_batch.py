"""What the tasks batch keeps the contract that is written down."""

import pytest
import torch

from hw_base.config.resolve import load
from hw_base.data.batch import LISTS, TENSORS, check_batch
from hw_base.errors import DataError
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ("ds2", {"waveform", "spectrogram", "tokens"}),
        ("fastspeech2", {"spectrogram", "tokens", "durations", "pitch", "energy", "speaker_id"}),
        ("hifigan", {"waveform", "spectrogram"}),
    ],
)
def test_the_batches_of_every_task_keep_it(config, written):
    trainer = Experiment(load(ROOT / "configs" / "tiny" / f"{config}.json"), torch.device("cpu")).trainer(None)
    batch = next(iter(trainer.loader))
    check_batch(batch)
    assert written | set(LISTS) <= batch.keys()
    assert {key for key in batch if isinstance(batch[key], torch.Tensor) and not key.endswith("_length")} <= set(
        TENSORS
    )
    if config == "ds2":
        batch |= trainer.model(**batch)
        check_batch(batch)
        assert "log_probs" in batch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"waveform": torch.zeros(2, 1, 9)},
            r"batch\['waveform'\]: expected \(B, S\) torch.float32 from item maker",
        ),
        ({"waveform": torch.zeros(2, 9).double()}, "torch.float64"),
        ({"waveform": torch.zeros(3, 9)}, "expected 2 utterances, found 3"),
        ({"waveform_length": torch.tensor([9.0, 8.0])}, r"batch\['waveform_length'\]: expected \(2,\) int64"),
        ({"waveform_length": torch.tensor([10, 8])}, "longer than"),
        ({"text": ["a"]}, "expected 2 entries, found 1"),
    ],
)
def test_what_breaks_it_is_named(change, message):
    batch = {"utterance_id": ["a", "b"], "text": ["x", None], "waveform": torch.zeros(2, 9)}
    batch["waveform_length"] = torch.tensor([9, 4])
    check_batch(batch)
    with pytest.raises(DataError, match=message):
        check_batch(batch | change)

"""Components that lack what their place needs are refused when the config is checked."""

import json

import pytest

from hw_asr.augmentations.base import BaseAugmentation
from hw_asr.models.base import CTCModel
from hw_base.config.resolve import resolve
from hw_base.errors import ConfigError
from hw_base.metrics import BaseMetric
from hw_base.nn.model import BaseModel
from hw_base.registry import AUGMENTATIONS, METRICS, MODELS, lacking
from hw_tts.models.base import SynthesisModel
from tests.conftest import ROOT


class Silent(SynthesisModel):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, **batch):
        return {}


class Timeless(CTCModel):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, spectrogram, spectrogram_length, **batch):
        return {}


class Foreign(BaseModel):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, **batch):
        return {}


@pytest.mark.parametrize(
    ("config", "model", "message"),
    [
        ("ds2", Timeless, "Timeless does not define output_lengths; see hw_asr.models.base.CTCModel"),
        ("ds2", Foreign, "Foreign is no CTCModel: it must be a subclass of hw_asr.models.base.CTCModel"),
        ("fastspeech2", Silent, "Silent does not define synthesize; see hw_tts.models.base.SynthesisModel"),
        ("fastspeech2", Foreign, "Foreign is no SynthesisModel"),
        ("hifigan", Foreign, "Foreign is no HiFiGAN"),
    ],
)
def test_a_model_that_lacks_what_its_task_needs_is_one_line(monkeypatch, config, model, message):
    monkeypatch.setitem(MODELS._entries, model.__name__, model)
    raw = json.loads((ROOT / "configs" / "tiny" / f"{config}.json").read_text()) | {"model": model.__name__}
    with pytest.raises(ConfigError) as error:
        resolve(raw)
    assert str(error.value).startswith(f"model.type: {message}")
    assert len(str(error.value).splitlines()) == 1


def test_every_registered_model_keeps_a_contract():
    for model in MODELS.values():
        contracts = [c for c in (CTCModel, SynthesisModel) if issubclass(model, c)] or [BaseModel]
        assert [lacking(model, contract) for contract in contracts] == [None]


class Nowhere(BaseAugmentation):
    def __init__(self, p: float = 1.0) -> None:
        super().__init__(p)

    def apply(self, x, generator):
        return x


class Unsummed(BaseMetric):
    def __init__(self) -> None:
        super().__init__()

    def update(self, references, hypotheses):
        pass


def test_an_augmentation_without_a_domain_and_a_metric_without_totals_are_one_line_each(monkeypatch):
    monkeypatch.setitem(AUGMENTATIONS._entries, "Nowhere", Nowhere)
    monkeypatch.setitem(METRICS._entries, "Unsummed", Unsummed)
    raw = json.loads((ROOT / "configs" / "tiny" / "ds2.json").read_text())
    raw |= {"augmentations": ["Nowhere"], "metrics": {"odd": "Unsummed", "wer": "WER"}}
    raw["trainer"].pop("monitor", None)
    with pytest.raises(ConfigError) as error:
        resolve(raw)
    lines = sorted(str(error.value).splitlines())
    assert lines == [
        "augmentations.0.type: Nowhere does not define domain; see hw_asr.augmentations.base.BaseAugmentation",
        "metrics.odd.type: Unsummed does not define compute, sum_names; see hw_base.metrics.BaseMetric",
    ]


def test_every_registered_metric_and_augmentation_keeps_its_contract():
    assert [lacking(metric, BaseMetric) for metric in METRICS.values()] == [None] * len(METRICS)
    assert [lacking(one, BaseAugmentation) for one in AUGMENTATIONS.values()] == [None] * len(AUGMENTATIONS)

"""Models that lack what their task needs are refused when the config is checked."""

import json

import pytest

from hw_asr.models.base import CTCModel
from hw_base.config.resolve import resolve
from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel, lacking
from hw_base.registry import MODELS
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

"""Every recipe takes a training step and an evaluation on a GPU that is not there: devices fit, and no step waits.

What this leaves out, and why, stands in `tests.rehearsal`. Transducers are not among the recipes: torchaudio's loss has
no fake implementation. Nor are those whose front ends know other symbols than the alignments of the embedded corpus.
"""

import pytest
import torch
from torch.utils._python_dispatch import _disable_current_modes

from hw_base import registry
from hw_base.config.read import read
from hw_base.config.resolve import build, resolve
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT
from tests.rehearsal import CUDA, rehearsed

# Once an evaluation batch, what was computed is fetched: for decoders, metrics and pictures.
FETCHING = {
    "hw_asr/decoders/checks.py:first_wrong",
    "hw_asr/decoders/greedy.py:__call__",
    "hw_asr/trainer.py:_blank_fraction",
    "hw_asr/trainer.py:_keep",
    "hw_base/training/meters.py:read",
    "hw_tts/evaluation/pictures.py:spoken",
    "hw_tts/evaluation/scores.py:pairs_of",
    "hw_tts/evaluation/scores.py:vocoder_pairs",
    "hw_tts/models/blocks/regulator.py:expand",
    "hw_tts/models/blocks/regulator.py:largest",  # how long the predicted speech is
    "hw_tts/models/hifigan/generator.py:vocode",  # utterances of unequal length, not in training
    "hw_tts/models/vits2/model.py:_speaker",
    "hw_tts/models/vits2/synthesis.py:_mask",
    "hw_tts/models/vits2/synthesis.py:synthesize",
    "hw_tts/synthesizer.py:waveforms_of",
    "hw_tts/vocoders/griffin_lim.py:_waveform",  # torch.istft looks whether its windows overlap
}
TINY = {name: read(str(ROOT / "configs" / "tiny" / f"{name}.json")) for name in ("ds2", "fastspeech2", "hifigan")}
QUICK = ["tiny/ds2", "tiny/conformer", "tiny/conformer_cr", "tiny/deepspeech", "tiny/fastspeech2", "tiny/hifigan"]
QUICK += ["tiny/vits2", "fastspeech2_learned"]
FULL = ["librispeech/conformer_30m", "librispeech/ds2", "ljspeech/hifigan_v1", "vits2_searched", "fastspeech"]


class OnAGpu(Experiment):
    """The parts of a config, with a model that never had values."""

    def model(self):
        with torch.device(CUDA):
            return build("model", self.config.model, registry.MODELS, **self.task.model_arguments())


def small(name):
    """The config of a recipe, on a few utterances of the embedded corpus."""
    path = next((ROOT / "configs").glob(f"{name}.*"))
    config = dict(read(str(path)))
    kind = {"asr": "ds2", "tts": "fastspeech2", "vocoder": "hifigan"}[config["task"]]
    dataset = TINY[kind]["data"]["train"]["datasets"][0]
    few = {
        "datasets": [{**dataset, "args": {**dataset["args"], "n_utterances": 16}}],
        "batch_size": 2,
        "limit": 4,
        "max_seconds": 2.0,
    }
    collate = config["data"]["train"].get("collate")
    few |= {"collate": collate} if collate else {}
    splits = {"train": few, "val": {**few, "limit": 2}}
    config["data"] = splits
    kept = {key: config["trainer"][key] for key in ("type", "args", "segment_frames") if key in config["trainer"]}
    config["trainer"] = {**kept, "amp": "bf16", "max_steps": 2, "log_every": 1, "examples": 1}
    return resolve(config, ["writers=[]"])


@pytest.mark.filterwarnings("ignore")  # of data pointers, and of memory that no device lets pin
@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in FULL if name not in QUICK)]
)
def test_a_recipe_finds_everything_on_its_device_and_never_waits_in_training(name, monkeypatch):
    config = small(name)
    with rehearsed(monkeypatch) as rehearsal:
        trainer = OnAGpu(config, CUDA).trainer(None)
        with _disable_current_modes():
            batch = next(iter(trainer.loader))
        rehearsal.waits.clear()
        trainer.train_step(dict(batch))
        assert rehearsal.waits == []
        values = trainer.evaluate("val")
    assert any(key.endswith("loss") for key in values)
    assert set(rehearsal.waits) <= FETCHING, set(rehearsal.waits) - FETCHING


@pytest.mark.filterwarnings("ignore")
def test_the_rehearsal_finds_a_tensor_on_the_wrong_device_and_what_waits(monkeypatch):
    with rehearsed(monkeypatch) as rehearsal:
        x = torch.ones(2, 3, device=CUDA)
        with pytest.raises(RuntimeError, match="two different devices"):
            x + torch.arange(3)
        assert rehearsal.waits == []
        assert x.device == CUDA
        for wait in (
            lambda: x.sum().item(),
            lambda: bool((x > 0).any()),
            lambda: x.cpu(),
            lambda: x[x > 0],
            lambda: torch.zeros(3).copy_(x[0]),
            lambda: torch.ones(3).to(CUDA),
        ):
            rehearsal.waits.clear()
            wait()
            assert len(rehearsal.waits) == 1
        rehearsal.waits.clear()
        torch.ones(3).to(CUDA, non_blocking=True)
        x[0].zero_()
        assert rehearsal.waits == []

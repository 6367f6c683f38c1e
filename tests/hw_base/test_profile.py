"""``python -m hw_base.profile``: all four trainers, and the stage that was made slow is the one that is named.

What is slow moves a clock, on which everything else takes a microsecond for each look: the load of the machine is none
of it.
"""

import cProfile
import functools
import json
import time

import pytest
import torch

from hw_asr.augmentations.waveform import WaveformAugmentation
from hw_asr.data.collate import ASRCollate
from hw_base import profile
from hw_base.config.resolve import read, resolve
from hw_base.profiling import advice, reading, steps
from hw_base.profiling.clock import Clock
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT

QUICK = ["trainer.examples=0", "metrics={}", "trainer.monitor=null", "trainer.preflight=false"]
SLOW = 100.0


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("ds2", "rnns"),
        ("fastspeech2", "encoder"),
        ("vits2", "generator.enc_p"),
        ("hifigan", "discriminator.mpd"),
    ],
)
def test_every_trainer_is_measured(name, module, capsys):
    overrides = [line for line in QUICK if "metrics" not in line or name == "ds2"]
    arguments = ["-c", str(ROOT / "configs" / "tiny" / f"{name}.json"), "--steps", "1", "-d", "cpu"]
    assert profile.main([*arguments, "--json", "--set", *overrides]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {steps.FORWARD, steps.BACKWARD, steps.OPTIMIZER, advice.DATA, advice.EVALUATION} <= found["parts"].keys()
    assert found["step"] == pytest.approx(sum(found["parts"].values()))
    assert found["parts"][steps.FORWARD] == pytest.approx(sum(found["forward"].values()))
    assert found["forward"][module] > 0
    assert all(seconds >= 0 for part in ("parts", "making", "forward") for seconds in found[part].values())
    assert {"features", "collate"} <= found["making"].keys()
    assert found["memory"]["weights"] == found["memory"]["gradients"] > 0
    assert found["memory"][f"kept for backward: {module}"] > 0
    assert found["suggestion"]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]

    def look():
        now[0] += 1e-6
        return now[0]

    def pass_seconds(seconds):
        now[0] += seconds

    monkeypatch.setattr(time, "perf_counter", look)
    monkeypatch.setattr(time, "sleep", pass_seconds)
    monkeypatch.setattr(cProfile, "Profile", functools.partial(cProfile.Profile, look))


class Lazy(WaveformAugmentation):
    """Takes its time."""

    def __init__(self):
        super().__init__(1.0)

    def apply(self, x, generator):
        time.sleep(SLOW)
        return x


class LazyCollate(ASRCollate):
    """Takes its time."""

    def _column(self, key, values):
        time.sleep(SLOW)
        return super()._column(key, values)


@pytest.fixture
def trainer():
    return Experiment(resolve(read(ROOT / "configs" / "tiny" / "ds2.json"), QUICK), torch.device("cpu")).trainer(None)


def slowed(owner, method):
    original = getattr(owner, method)

    def slow(*args, **keywords):
        time.sleep(SLOW)
        return original(*args, **keywords)

    setattr(owner, method, slow)


@pytest.mark.parametrize("stage", ["augment", "features", "collate", "text", reading.REST])
def test_the_slow_stage_of_making_batches_is_named(trainer, stage, clock):
    split, maker = trainer.loader.split, trainer.loader.split.make_item
    if stage == "augment":
        maker.on_waveform.append(Lazy())
    elif stage == "features":
        slowed(maker.features, "_padded")
    elif stage == "collate":
        trainer.loader._batches.dataset.collate_fn = LazyCollate()
    elif stage == "text":
        slowed(maker.text_encoder, "_fold")
    else:
        slowed(split, "waveform")
    _, making = reading.measure(trainer.loader, 1)
    assert next(iter(making)) == stage
    assert making[stage] > 2 * SLOW
    assert sum(making.values()) == pytest.approx(making[stage], rel=1e-3)


def test_a_slow_module_is_the_slowest_of_the_forward_pass(trainer, clock):
    slowed(trainer.model.head, "forward")
    batches, _ = reading.measure(trainer.loader, 1)
    found = steps.measure(trainer, batches)
    modules = {stage: seconds for stage, seconds in found.items() if stage.startswith(steps.FORWARD)}
    assert max(modules, key=modules.get) == f"{steps.FORWARD}: head"
    assert modules[f"{steps.FORWARD}: head"] == pytest.approx(SLOW, rel=1e-3)


@pytest.mark.parametrize(
    ("largest", "stage", "overrides", "expected"),
    [
        (advice.DATA, "decode", [], "data.train.cache=memory"),
        (advice.DATA, "augment", [], "data.train.workers=2"),
        (advice.DATA, "augment", ["data.train.workers=2"], "data.train.workers=4"),
        (advice.DATA, "decode", ["data.train.cache=memory"], "data.train.workers=2"),
        (advice.EVALUATION, "decode", [], "trainer.eval_every"),
        (steps.OPTIMIZER, "decode", [], "trainer.accumulate"),
        (steps.BACKWARD, "decode", ["trainer.amp=bf16", "data.train.jitter=0.9"], "data.train.jitter"),
        (steps.BACKWARD, "decode", ["trainer.amp=bf16", "data.train.jitter=0.0"], "'rnns'"),
    ],
)
def test_the_suggestion_is_about_the_largest_part(largest, stage, overrides, expected):
    config = resolve(read(ROOT / "configs" / "tiny" / "ds2.json"), [*QUICK, *overrides])
    trainer = Experiment(config, torch.device("cpu")).trainer(None)
    parts = {advice.DATA: 1.0, advice.EVALUATION: 1.0, steps.OPTIMIZER: 1.0, steps.BACKWARD: 1.0} | {largest: 2.0}
    assert expected in advice._suggestion(trainer, parts, {stage: 2.0, "collate": 1.0}, {"rnns": 2.0, "head": 1.0})


def test_what_is_printed_ends_with_a_suggestion(capsys):
    config = str(ROOT / "configs" / "tiny" / "ds2.json")
    assert profile.main(["-c", config, "--steps", "9", "--threads", "1", "-d", "cpu", "--set", *QUICK]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("; 3 steps")  # an epoch
    titles = [line[:44].strip() for line in lines if line and not line.startswith(" ")]
    assert {"one step", "making one batch", "forward pass", "memory"} <= set(titles)
    assert lines[-1].startswith("largest part: ")
    assert "; suggestion: " in lines[-1]


@pytest.mark.parametrize(("kind", "waits"), [("cuda", 2), ("mps", 2), ("cpu", 0)])
def test_a_device_that_computes_beside_the_program_is_waited_for_at_each_change_of_stages(kind, waits, monkeypatch):
    waited = []
    for module in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, module), "synchronize", lambda *of, module=module: waited.append(module))
    with Clock(torch.device(kind)).running("a stage"):
        pass
    assert waited == [kind] * waits

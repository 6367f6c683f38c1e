import json
import time

import pytest
import torch

import train as train_script
from hw_base import checkpoint, distributed
from hw_base.config.resolve import as_dict, read, resolve
from hw_base.errors import ConfigError
from hw_base.runs import experiment as experiments
from hw_base.runs.experiment import Experiment
from hw_base.training import machine
from tests.conftest import ROOT, same

TINY = ROOT / "configs" / "tiny" / "ds2.json"
QUICK = ["trainer.max_steps=3", "trainer.eval_every=3", "trainer.examples=0", "trainer.preflight=false"]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def trainer_of(*overrides, state=None, **arguments):
    config = resolve(read(TINY), [*QUICK, *overrides])
    return Experiment(config, CPU, state, **arguments).trainer(None)


@pytest.mark.parametrize(
    ("cores", "local", "device", "expected"),
    [(1, 1, CPU, 0), (2, 1, CPU, 0), (4, 1, CPU, 1), (1, 1, GPU, 1), (4, 1, GPU, 3), (64, 1, GPU, 8), (64, 8, GPU, 7)],
)
def test_workers_are_chosen_by_device_and_cores(cores, local, device, expected, monkeypatch):
    monkeypatch.setattr(distributed, "n_cores", lambda: cores)
    monkeypatch.setattr(distributed, "local_world_size", lambda: local)
    assert machine.n_workers("auto", device) == expected
    assert machine.n_workers(5, device) == 5


def test_a_config_may_leave_the_number_of_workers_open(monkeypatch):
    monkeypatch.setattr(distributed, "n_cores", lambda: 4)
    assert trainer_of("data.train.workers=auto").loader.workers == 1


@pytest.mark.parametrize("value", ["many", "-1", "true", "1.5"])
def test_other_numbers_of_workers_are_refused(value):
    with pytest.raises(ConfigError, match=r'data\.train\.workers: expected 0 to 512, or "auto"'):
        resolve(read(TINY), [f"data.train.workers={value}"])


def burn():
    started = time.process_time()
    while time.process_time() - started < 0.3:
        pass


@pytest.mark.parametrize(("slow", "expected"), [(torch.bfloat16, "off"), (None, "bf16")])
def test_the_faster_precision_is_taken_and_nothing_of_the_trainer_changes(slow, expected, monkeypatch):
    trainer = trainer_of("trainer.amp=off")
    original = type(trainer).losses

    def losses(self, batch):
        if self.setup.amp_dtype is slow:
            burn()
        yield from original(self, batch)

    monkeypatch.setattr(type(trainer), "losses", losses)
    before = trainer.state_dict()
    choice, sentence = machine.faster_precision(trainer, next(trainer.loader.here(1)))
    assert choice == expected
    assert "in float32 and" in sentence
    assert same(trainer.state_dict(), before)
    assert trainer.setup.amp_dtype is None


@pytest.mark.parametrize("choice", ["off", "bf16"])
def test_a_measured_run_is_the_run_that_its_config_names(choice, monkeypatch):
    original = experiments.faster_precision

    def measured(*arguments):
        original(*arguments)  # which the training must not notice
        return choice, "as planted"

    monkeypatch.setattr(experiments, "faster_precision", measured)
    found = trainer_of("trainer.amp=measured")
    assert as_dict(found.setup.config)["trainer"]["amp"] == choice
    assert found.setup.amp_dtype == experiments.precision(choice, CPU)
    found.train()
    plain = trainer_of(f"trainer.amp={choice}")
    plain.train()
    assert same(found.state_dict(), plain.state_dict())

    def never(*arguments):
        raise AssertionError("measured again")

    monkeypatch.setattr(experiments, "faster_precision", never)
    resumed = trainer_of("trainer.amp=measured", state=found.state_dict())
    assert resumed.setup.config == found.setup.config


def test_the_choice_stands_in_the_run_folder_and_in_its_checkpoints(tmp_path, caplog):
    with caplog.at_level("INFO", logger="hw_base"):
        arguments = ["-c", str(TINY), "-d", "cpu", "--run-dir", str(tmp_path / "run")]
        assert train_script.main([*arguments, "--set", *QUICK, "trainer.amp=measured"]) == 0
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert written["trainer"]["amp"] in ("off", "bf16")
    assert checkpoint.load(tmp_path / "run" / "checkpoint-00000003.pth")["config"] == written
    assert f"this run has trainer.amp: {written['trainer']['amp']}" in caplog.text


def test_threads_that_cost_time_are_named(monkeypatch):
    assert machine.advice_on_threads() is None  # the tests have one thread
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    times = {1: 1.0, 4: 1.1}
    monkeypatch.setattr(machine, "_work_of", times.__getitem__)
    monkeypatch.setattr(torch, "set_num_threads", times.__getitem__)
    assert machine.advice_on_threads() is None
    times[4] = 2.5
    assert machine.advice_on_threads().startswith("4 threads take 2.5 times as long as one")
    assert "OMP_NUM_THREADS=1" in machine.advice_on_threads()

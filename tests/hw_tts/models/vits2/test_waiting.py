"""A training step of VITS2 asks for no value, so that a GPU is never waited for, and makes no constant anew."""

import copy
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hw_base.config.read import read
from hw_base.config.resolve import resolve
from hw_base.runs.experiment import Experiment
from tests.conftest import ROOT, same

# Operations whose result's size or value the host has to know, and those that design filters and windows.
WAITING = {
    "_local_scalar_dense",
    "is_nonzero",
    "nonzero",
    "masked_select",
    "_unique2",
    "unique_dim",
    "bincount",
    "equal",
}
DESIGNING = {"hann_window", "kaiser_window", "sinc", "linspace"}
READING = {"item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__"}


class Refuse(TorchDispatchMode):
    """No operation of `WAITING` and `DESIGNING`, in forward or backward passes or in optimizers."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        assert not by_mask, f"{name} by a mask: the host has to know how many elements there are"
        assert name not in WAITING | DESIGNING, name
        assert name != "repeat_interleave" or (kwargs or {}).get("output_size") is not None, name
        return function(*args, **(kwargs or {}))


class RefuseToRead(TorchFunctionMode):
    """No tensor's value is taken to Python; on a CPU that would be no operation."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        assert getattr(function, "__name__", "") not in READING, function
        return function(*args, **(kwargs or {}))


def trainer_of(*sets):
    few = ["data.train.datasets.0.args.n_utterances=8", "data.val.limit=1", "metrics={}", "trainer.monitor=null"]
    config = resolve(read(str(ROOT / "configs" / "tiny" / "vits2.json")), [*few, *sets])
    return Experiment(config, torch.device("cpu")).trainer(None)


def as_on_a_gpu(trainer, monkeypatch):
    """Let the CPU take the ways of a GPU: its alignment search, and updates that are skipped on the device."""
    monkeypatch.setitem(sys.modules, "numba", None)
    for optimization in trainer.optimizations.values():
        optimization.skips_on_device = optimization.scaler is None
    return trainer


def weights(trainer):
    return {name: copy.deepcopy(network.state_dict()) for name, network in trainer.model.parameter_groups().items()}


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_a_step_waits_for_nothing(monkeypatch, amp):
    trainer = as_on_a_gpu(trainer_of(f"trainer.amp={amp}"), monkeypatch)
    first, second = list(trainer.loader)
    trainer.train_step(dict(first))  # what is made once is made here
    before = weights(trainer)
    with Refuse(), RefuseToRead():
        trainer.train_step(dict(second))
    trainer.guard.read()
    assert trainer.guard.skipped == 0
    if amp != "fp16":  # whose first steps find the loss scale
        assert not any(same(before[name], after) for name, after in weights(trainer).items())


@pytest.mark.parametrize("amp", ["off", "fp16"])
def test_a_bad_step_waits_for_nothing_either(monkeypatch, amp):
    trainer = as_on_a_gpu(trainer_of(f"trainer.amp={amp}"), monkeypatch)
    first, second = list(trainer.loader)
    trainer.train_step(dict(first))
    before, scales = weights(trainer), [o.scaler.get_scale() for o in trainer.optimizations.values() if o.scaler]
    second["spectrogram"] = second["spectrogram"] * torch.nan
    with Refuse(), RefuseToRead():
        trainer.train_step(dict(second))
    trainer.guard.read()
    assert trainer.guard.skipped == 2  # durations stay finite
    after = weights(trainer)
    assert [name for name in after if not same(before[name], after[name])] == ["duration_discriminator"]
    # What is wrong with the batch is no overflow.
    assert scales == [o.scaler.get_scale() for o in trainer.optimizations.values() if o.scaler]

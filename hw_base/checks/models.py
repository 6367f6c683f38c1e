"""What every model of every task keeps to; a task declares more for its own."""

import copy

import torch

from hw_base.checks.contract import Candidate, Contract, Outcome, expect
from hw_base.checks.parameters import check_groups
from hw_base.checks.table import declare
from hw_base.errors import ConfigError
from hw_base.nn.model import BaseModel

# Models that make waveforms are made for one of these, and refuse the others.
_HOPS = (128, 256, 200, 300, 160)

ANY_MODEL: Contract[Candidate] = Contract("model")


def check_any_model(candidate: Candidate) -> list[Outcome]:
    """The properties of a model whose inputs are not known."""
    return ANY_MODEL.check(candidate)


def _model(candidate: Candidate, init_seed: int = 0) -> BaseModel:
    sizes = {"n_mels": 40, "n_tokens": 11, "n_speakers": 2, "sample_rate": 16000}
    for hop_length in _HOPS:
        try:
            model: BaseModel = candidate.build(init_seed, **sizes, hop_length=hop_length)
        except ConfigError:
            if hop_length == _HOPS[-1]:
                raise
        else:
            return model
    raise AssertionError


@ANY_MODEL.property("parameters made outside the groups, which no optimizer would train, or two groups that share some")
def every_parameter_is_in_one_group(candidate: Candidate) -> None:
    check_groups(_model(candidate))


@ANY_MODEL.property("a division by zero or an uninitialized tensor in the constructor")
def parameters_begin_finite(candidate: Candidate) -> None:
    bad = [name for name, p in _model(candidate).named_parameters() if not torch.isfinite(p).all()]
    expect(not bad, "finite parameters", ", ".join(bad[:5]))


@ANY_MODEL.property("a layer that is made at the first call, or a key that load_state_dict does not know")
def the_state_is_loaded_strictly(candidate: Candidate) -> None:
    first, second = _model(candidate), _model(candidate, 1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other = second.state_dict()
    changed = [key for key, value in first.state_dict().items() if not torch.equal(value, other[key])]
    expect(not changed, "the tensors that were loaded", f"others for {', '.join(changed[:5])}")


declare("models", check_any_model, BaseModel)

"""What every model of every task keeps to; a task declares more for its own."""

import copy
from collections.abc import Callable

import torch

from hw_base.checks.contract import Candidate, Contract, Outcome, expect
from hw_base.checks.parameters import check_groups
from hw_base.checks.table import declare
from hw_base.nn.model import BaseModel

# A function that builds the model, with a seed of its random initialization: 0 if not given.
Build = Callable[..., BaseModel]

ANY_MODEL: Contract[Build] = Contract("model")


def check_any_model(candidate: Candidate) -> list[Outcome]:
    """The properties of a model whose inputs are not known."""
    return ANY_MODEL.check(lambda init_seed=0: candidate.build(init_seed, n_mels=40, n_tokens=11))


@ANY_MODEL.property("parameters made outside the groups, which no optimizer would train, or two groups that share some")
def every_parameter_is_in_one_group(build: Build) -> None:
    check_groups(build())


@ANY_MODEL.property("a division by zero or an uninitialized tensor in the constructor")
def parameters_begin_finite(build: Build) -> None:
    bad = [name for name, p in build().named_parameters() if not torch.isfinite(p).all()]
    expect(not bad, "finite parameters", ", ".join(bad[:5]))


@ANY_MODEL.property("a layer that is made at the first call, or a key that load_state_dict does not know")
def the_state_is_loaded_strictly(build: Build) -> None:
    first, second = build(), build(1)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    other = second.state_dict()
    changed = [key for key, value in first.state_dict().items() if not torch.equal(value, other[key])]
    expect(not changed, "the tensors that were loaded", f"others for {', '.join(changed[:5])}")


declare("models", check_any_model, BaseModel)

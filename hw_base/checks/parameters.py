"""What the parameters of every model keep to."""

from torch import nn

from hw_base.checks.contract import expect
from hw_base.nn.model import BaseModel


def check_groups(model: BaseModel) -> None:
    """Every parameter belongs to exactly one group, and the groups have the names that the class declares."""
    groups = model.parameter_groups()
    declared = type(model).parameter_group_names
    expect(set(groups) == set(declared), f"parameter groups {sorted(declared)}", sorted(groups))
    owner: dict[int, str] = {}
    for name, network in groups.items():
        for parameter in network.parameters():
            other = owner.setdefault(id(parameter), name)
            expect(other == name, "each parameter in one group", f"one in both {other!r} and {name!r}")
    lost = [name for name, parameter in model.named_parameters() if id(parameter) not in owner]
    expect(not lost, "every parameter in a group", f"{', '.join(lost[:5])} in none")


def without_gradient(model: nn.Module) -> list[str]:
    """Names of trainable parameters that have no gradient, or one that is zero everywhere."""
    return [
        name
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not bool(parameter.grad.any()))
    ]

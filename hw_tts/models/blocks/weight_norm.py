"""Weight norm folded into plain weights."""

from torch import nn
from torch.nn.utils import parametrize


def fold_weight_norm(network: nn.Module) -> nn.Module:
    """Replace every normalized weight by its value, in place: the same outputs, computed once; training ends.

    Other modules stay as they are, also those that `copy.deepcopy` made this network from.
    """
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            # A parametrization is in a class made for the module. Copies share it, and removing the parametrization
            # of one would take it from all.
            own = {key: value for key, value in vars(type(module)).items() if key not in ("__dict__", "__weakref__")}
            module.__class__ = type(type(module).__name__, type(module).__bases__, own)
            parametrize.remove_parametrizations(module, "weight")
    return network

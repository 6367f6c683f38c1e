"""Which parameters of a group are trained, from when on, and how fast: by globs over their names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn

from hw_base.errors import ConfigError
from hw_base.registry import suggest


@dataclass
class Freezing:
    """What one optimizer does with the parameters of its group.

    Attributes:
        trained: names, all that are trained at some time.
        thawed: epoch -> names of parameters that are frozen before it.
        factors: name -> factor of the learning rate, where it is not 1.
    """

    trained: list[str]
    thawed: dict[int, list[str]] = field(default_factory=dict)
    factors: dict[str, float] = field(default_factory=dict)


def plan(
    where: str,
    network: nn.Module,
    train: Iterable[str],
    freeze: Iterable[str],
    thaw: Mapping[str, int],
    lr_factors: Mapping[str, float],
) -> Freezing:
    """Sort the parameters of a network.

    Args:
        where: path in the config, for messages.
        network: those that do not require gradients stay as they are.
        train: globs of what is trained; all else is frozen.
        freeze: globs of what is also frozen.
        thaw: glob -> epoch, from 1 on, from which they are unfrozen.
        lr_factors: glob -> factor of the learning rate; where several match, the last one counts.

    Raises:
        ConfigError: a glob matches no parameter, or a thawed one is not frozen.
    """
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    frozen = {name for name in names if name not in matching(f"{where}.train", names, train)}
    frozen |= matching(f"{where}.freeze", names, freeze)
    thawed: dict[int, list[str]] = {}
    for glob, epoch in thaw.items():
        found = matching(f"{where}.thaw", names, [glob])
        if not found <= frozen:
            raise ConfigError(f"{where}.thaw: {glob!r} names parameters that are not frozen: {min(found - frozen)!r}")
        thawed.setdefault(epoch, []).extend(name for name in names if name in found)
        frozen -= found
    factors = {}
    for glob, factor in lr_factors.items():
        factors.update(dict.fromkeys(matching(f"{where}.lr_factors", names, [glob]), factor))
    return Freezing([name for name in names if name not in frozen], thawed, factors)


def matching(where: str, names: list[str], globs: Iterable[str]) -> set[str]:
    """The names that any of the globs matches; `where` is the path in the config, for messages.

    Raises:
        ConfigError: a glob matches none of them.
    """
    found: set[str] = set()
    for glob in globs:
        matched = {name for name in names if fnmatchcase(name, glob)}
        if not matched:
            advice = suggest(glob, sorted({_up_to(name, max(glob.count("."), 1)) for name in names}))
            raise ConfigError(f"{where}: {glob!r} matches no parameter. {advice}")
        found |= matched
    return found


def _up_to(name: str, depth: int) -> str:
    """The glob of the module that holds a parameter, of ``depth`` parts at most, or the parameter's own name."""
    parts = name.split(".")
    return name if len(parts) <= depth else ".".join([*parts[:depth], "*"])

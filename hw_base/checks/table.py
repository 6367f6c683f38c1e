"""Which check belongs to which components; the packages of the tasks declare theirs when they are imported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hw_base import registry
from hw_base.checks.contract import Candidate, Outcome
from hw_base.registry import Registry

Check = Callable[[Candidate], list[Outcome]]
Examples = Callable[[], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True)
class Entry:
    """A check and what it is for.

    Attributes:
        check: a component to the outcomes of its properties.
        applies: whether a class is one that the check is for.
        what: in words, for a class that no check is for.
        parts: classes that stand in no registry, by name, with arguments for an example.
    """

    check: Check
    applies: Callable[[Any], bool]
    what: str
    parts: Mapping[str, tuple[Callable[..., Any], Mapping[str, Any]]] = field(default_factory=dict)


# Kinds by their names on the command line; those without a registry are parts of models.
REGISTRIES: dict[str, Registry[Any]] = {
    "augmentations": registry.AUGMENTATIONS,
    "collates": registry.COLLATES,
    "datasets": registry.DATASETS,
    "decoders": registry.DECODERS,
    "features": registry.FEATURES,
    "losses": registry.LOSSES,
    "metrics": registry.METRICS,
    "models": registry.MODELS,
    "text_encoders": registry.TEXT_ENCODERS,
}
CHECKS: dict[str, list[Entry]] = {kind: [] for kind in REGISTRIES}


def declare(
    kind: str,
    check: Check,
    applies: "Callable[[Any], bool] | type",
    what: str = "",
    parts: Mapping[str, tuple[Callable[..., Any], Mapping[str, Any]]] | None = None,
) -> None:
    """Say that a check is for certain components.

    Args:
        kind: as in `REGISTRIES`, or a new one for parts of models.
        check: what is called.
        applies: a base class, or a condition on the class.
        what: the components in words; a base class names itself.
        parts: see `Entry`.
    """
    if isinstance(applies, type):
        base: type = applies
        what = what or f"{base.__module__}.{base.__name__}"
        CHECKS.setdefault(kind, []).append(
            Entry(check, lambda target: isinstance(target, type) and issubclass(target, base), what, parts or {})
        )
    else:
        CHECKS.setdefault(kind, []).append(Entry(check, applies, what, parts or {}))

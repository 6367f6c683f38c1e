"""A contract: a list of small named properties, each with what usually breaks it."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from hw_base import seeding
from hw_base.config.components import unwritten
from hw_base.config.resolve import build
from hw_base.config.schema import Component
from hw_base.errors import HwError, MissingPackageError
from hw_base.registry import Registry

Subject = TypeVar("Subject")

# Longer descriptions of what was found are cut.
_MAX_FOUND = 300
# The name of the outcome where a function of the component raises NotImplementedError.
UNWRITTEN = "every part is written"


class BrokenError(Exception):
    """A property does not hold.

    Args:
        expected: what the property says.
        found: what came instead.
    """

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected, self.found = expected, str(found)


class NotClaimedError(Exception):
    """The component does not claim what a property is about; the message says what it lacks."""


def expect(holds: "bool | Tensor", expected: str, found: object) -> None:
    """Raise `BrokenError` unless `holds`."""
    if not bool(holds):
        raise BrokenError(expected, found)


def expect_close(found: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Raise `BrokenError` unless two tensors have one shape and values that differ by at most `tolerance`."""
    expect(found.shape == expected.shape, f"{what}: shape {tuple(expected.shape)}", f"shape {tuple(found.shape)}")
    if not found.numel():
        return
    found, expected = found.detach(), expected.detach()
    difference = (found.double() - expected.double()).abs().nan_to_num(nan=float("inf"))
    difference[found == expected] = 0.0  # -inf equals itself
    worst = int(difference.argmax())
    place = [int(i) for i in torch.unravel_index(torch.tensor(worst), found.shape)]
    expect(
        float(difference.max()) <= tolerance,
        f"{what}: equal within {tolerance:g}",
        f"a difference of {float(difference.max()):.4g} at {place}",
    )


@dataclass(frozen=True)
class Outcome:
    """What became of one property.

    Attributes:
        name: of the property.
        holds: True, False, or None where the component does not claim it.
        expected: empty where it holds, and where a part is not written yet.
        found: empty where it holds; why it is not claimed.
        cause: what usually breaks it; empty where it holds.
    """

    name: str
    holds: bool | None
    expected: str = ""
    found: str = ""
    cause: str = ""


@dataclass(frozen=True)
class Candidate:
    """A component to be checked, not built yet.

    Attributes:
        name: for messages.
        target: its class.
        args: of its constructor, as in a config.
    """

    name: str
    target: Callable[..., Any]
    args: Mapping[str, Any] = field(default_factory=dict)

    def build(self, init_seed: int = 0, **runtime: Any) -> Any:
        """A new one, the same at each call with one seed.

        Args:
            init_seed: of what is random in the constructor.
            runtime: what only code knows; given as far as the constructor asks for it and `args` do not.

        Raises:
            ConfigError: `args` do not fit.
        """
        kinds = {parameter.kind for parameter in inspect.signature(self.target).parameters.values()}
        if inspect.Parameter.VAR_KEYWORD in kinds:  # it has no constructor of its own
            return self.target(**self.args)
        registry = Registry[Any]("component")
        registry._entries[self.name] = self.target
        free = {key: value for key, value in runtime.items() if key not in self.args}
        with seeding.isolated(init_seed):
            return build(self.name, Component(type=self.name, args=dict(self.args)), registry, **free)


@dataclass(frozen=True)
class Property(Generic[Subject]):
    """One thing that every component of a kind keeps to.

    Attributes:
        name: a short sentence.
        cause: what usually breaks it.
        test: raises `BrokenError` where it does not hold, `NotClaimedError` where it does not apply.
    """

    name: str
    cause: str
    test: Callable[[Subject], None]

    def check(self, subject: Subject) -> Outcome:
        """Test a component; whatever it raises breaks the property."""
        try:
            with seeding.isolated(0):
                self.test(subject)
        except (NotClaimedError, MissingPackageError) as error:
            return Outcome(self.name, None, found=str(error))
        except BrokenError as error:
            return Outcome(self.name, False, error.expected, error.found[:_MAX_FOUND], self.cause)
        except NotImplementedError as error:
            return Outcome(UNWRITTEN, False, found=unwritten(error))
        except Exception as error:
            kind = "" if isinstance(error, HwError) else f"{type(error).__name__}: "
            return Outcome(self.name, False, "no error", f"{kind}{error}"[:_MAX_FOUND], self.cause)
        return Outcome(self.name, True)


class Contract(Generic[Subject]):
    """The properties of one kind of component, in the order in which they are checked.

    Args:
        kind: what the components are, for people.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.properties: list[Property[Subject]] = []

    def property(self, cause: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
        """Decorator: add a function that tests one property; the property's name is the function's, in words."""

        def add(test: Callable[[Subject], None]) -> Callable[[Subject], None]:
            self.properties.append(Property(test.__name__.strip("_").replace("_", " "), cause, test))
            return test

        return add

    def __getitem__(self, name: str) -> Property[Subject]:
        """The property of this name."""
        return next(one for one in self.properties if one.name == name)

    def check(self, subject: Subject) -> list[Outcome]:
        """All properties of one component, up to the first part of it that is not written yet."""
        outcomes = []
        for one in self.properties:
            outcomes.append(one.check(subject))
            if outcomes[-1].name == UNWRITTEN:
                break
        return outcomes


def broken(outcomes: Iterable[Outcome]) -> list[str]:
    """The names of the properties that do not hold."""
    return [outcome.name for outcome in outcomes if outcome.holds is False]

"""String-keyed registries: the ``type`` of a config section -> the class that is built from its ``args``.

The registries are closed: a config can name what was registered in code and nothing else, so that a config is data.
"""

import difflib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])
Entry = TypeVar("Entry")

# Arguments of these kinds have no names, so a config could not be checked against them.
_OPEN_KINDS = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def suggest(name: str, known: "Mapping[str, Any] | list[str]") -> str:
    """``Did you mean 'x'?``, or the list of what is allowed."""
    folded = {key.lower(): key for key in known}
    near = [folded[key] for key in difflib.get_close_matches(name.lower(), list(folded), n=1)]
    if near:
        return f"Did you mean {near[0]!r}?"
    return f"Known: {', '.join(sorted(known))}." if known else "None is known."


def lacking(target: Any, contract: type) -> str | None:
    """What a registered class lacks of a contract, for messages; None if it lacks nothing.

    A contract is a base class. It requires its abstract methods, its class variables that have no value, and the names
    in its ``required``, if it has that: abstract methods of a torch module can be called, so they say nothing.
    """
    where = f"{contract.__module__}.{contract.__qualname__}"
    if not (isinstance(target, type) and issubclass(target, contract)):
        return f"{target.__name__} is no {contract.__name__}: it must be a subclass of {where}"
    members = [vars(base) for base in target.__mro__ if not base.__module__.startswith(("torch.", "builtins"))]
    defined = {name for own in members for name in own if name not in own.get("required", ())}
    needed = {name for own in members for name in own.get("required", ())}
    needed |= {name for name in vars(contract).get("__annotations__", {})} - {"required"}
    missing = sorted((needed - defined) | {*vars(target).get("__abstractmethods__", ())})
    return f"{target.__name__} does not define {', '.join(missing)}; see {where}" if missing else None


class Registry(Mapping[str, Entry]):
    """The names of one kind of component, for example all models.

    Attributes:
        kind: what the entries are, in the singular, for messages.
        renamed: name before -> name now; a config may use either.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self.renamed: dict[str, str] = {}

    def register(self, name: str | None = None, before: str | None = None) -> Callable[[T], T]:
        """Decorator: make a class buildable as ``{"type": name}``; the name defaults to the class's own.

        Args:
            name: in configs.
            before: the name it had before, which older configs and checkpoints use.

        Raises:
            TypeError: the constructor takes ``*args`` or ``**kwargs``, so a misspelled key could not be found out.
            ValueError: the name is taken.
        """

        def add(target: T) -> T:
            key = name or target.__name__
            if key in self._entries:
                raise ValueError(f"{self.kind} {key!r} is already registered by {self._entries[key].__module__}")
            open_ended = [p.name for p in inspect.signature(target).parameters.values() if p.kind in _OPEN_KINDS]
            if open_ended:
                raise TypeError(
                    f"{self.kind} {key!r}: a registered constructor must name its arguments, not {open_ended}"
                )
            self._entries[key] = target  # type: ignore[assignment]  # what an entry is, its base class says
            if before is not None:
                self.renamed[before] = key
            return target

        return add

    def unknown(self, name: object) -> str:
        """The message for a name that is not registered."""
        if not isinstance(name, str):
            return f"expected the name of a {self.kind}, found {name!r}"
        return f"no {self.kind} is named {name!r}. {suggest(name, self._entries)}"

    def __getitem__(self, name: str) -> Entry:
        if not isinstance(name, str) or name not in self._entries:  # a config may say anything
            raise KeyError(self.unknown(name))
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:  # a mapping has none, and registries mark fields of the schema
        return id(self)


TASKS = Registry[Any]("task")
FEATURES = Registry[Callable[..., Any]]("feature")
MODELS = Registry[Any]("model")
PREDICTORS = Registry[Callable[..., Any]]("predictor of transducers")
DATASETS = Registry[Callable[..., Any]]("dataset")
COLLATES = Registry[Callable[..., Any]]("collate")
LOSSES = Registry[Callable[..., Any]]("loss")
METRICS = Registry[Any]("metric")
DECODERS = Registry[Callable[..., Any]]("decoder")
TEXT_ENCODERS = Registry[Callable[..., Any]]("text encoder")
AUGMENTATIONS = Registry[Any]("augmentation")
OPTIMIZERS = Registry[Callable[..., Any]]("optimizer")
SCHEDULERS = Registry[Callable[..., Any]]("scheduler")
WRITERS = Registry[Callable[..., Any]]("writer")
TRAINERS = Registry[Any]("trainer")
SPEAKER_INITS = Registry[Callable[..., Any]]("initializer of new speakers")


def derives(name: str, other: object) -> bool:
    """Whether one registered model is another, or a subclass of it."""
    if not isinstance(other, str) or name not in MODELS or other not in MODELS:
        return False
    one, base = MODELS[name], MODELS[other]
    return isinstance(one, type) and isinstance(base, type) and issubclass(one, base)

# PYTHON_ARGCOMPLETE_OK
"""What a config may name: ``python -m hw_base.list``, ``... list models``, ``... list models DeepSpeech2``.

Everything is read from signatures and docstrings, so that nothing is declared twice.
"""

import inspect
import re
import sys
from collections.abc import Sequence
from types import UnionType
from typing import Any, Literal, Union, get_origin

from hw_base import registry, task_packages
from hw_base.config.schema import Config, Of, PathMark
from hw_base.errors import ConfigError
from hw_base.registry import Registry, suggest
from hw_base.runs import cli
from hw_base.runs.parser import Parser

REGISTRIES: dict[str, Registry[Any]] = {
    name.lower(): value for name, value in vars(registry).items() if isinstance(value, Registry)
}
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns|Yields):$", re.MULTILINE)
_ARGUMENT = re.compile(r"^    (\w+(?:, \w+)*)(?: \(.*?\))?: ", re.MULTILINE)
# Where torch's docstrings turn to formulas, notes and examples.
_MARKUP = re.compile(r"\n*^ *(\.\. |Example|>>>).*", re.MULTILINE | re.DOTALL)


def purpose(target: Any) -> str:
    """The first sentence of a component's docstring; empty if it has none of its own."""
    own = target.__dict__.get("__doc__") if isinstance(target, type) else target.__doc__
    first = inspect.cleandoc(own or "").split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=\.)(?<!al\.) ", first)[0].strip()


def overview(kind: str) -> str:
    """Every registered name of one kind with its purpose, one a line."""
    entries = REGISTRIES[kind]
    width = max(map(len, entries), default=0)
    return "\n".join([f"{kind}:", *(f"  {name:<{width}}  {purpose(entries[name])}" for name in sorted(entries))])


def describe(kind: str, name: str) -> str:
    """One component: what it is, its arguments with types and defaults, and what its ``forward`` takes and gives.

    Args:
        kind: ``models``, ``decoders``, ...
        name: as a config writes it.

    Raises:
        ConfigError: nothing is registered under the name.
    """
    entries = REGISTRIES[kind]
    name = entries.renamed.get(name, name)
    if name not in entries:
        raise ConfigError(entries.unknown(name))
    target: Any = entries[name]
    text, documented = _split(inspect.getdoc(target) or "")
    for base in getattr(target, "__mro__", ()):
        documented = _split(inspect.cleandoc(base.__doc__ or ""))[1] | documented
    lines = [f"{name} ({entries.kind}; {target.__module__})", "", text]
    runtime, filled = _given_by_code(entries)
    parameters = inspect.signature(target).parameters.values()
    in_config = [p for p in parameters if p.name not in runtime]
    if in_config:
        lines += ["", "Arguments:"]
    for parameter in in_config:
        lines.append(f"  {parameter.name}: {_type(parameter)}{_default(parameter, filled)}")
        if parameter.name in documented:
            lines.append(f"      {documented[parameter.name]}")
    from_code = [p.name for p in parameters if p.name in runtime]
    if from_code:
        lines += ["", f"Given by the program: {', '.join(from_code)}"]
    forward = getattr(target, "forward", None)
    if forward is not None and forward.__doc__ and forward.__module__.startswith("hw_"):
        lines += ["", "forward:", *("  " + line for line in inspect.cleandoc(forward.__doc__).splitlines())]
    return "\n".join(lines)


def _split(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's text without its sections, and what ``Args`` says of each argument."""
    parts = _SECTION.split(doc)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    found = _ARGUMENT.split(sections.get("Args", ""))
    documented: dict[str, str] = {}
    for names, text in zip(found[1::2], found[2::2], strict=True):
        documented |= dict.fromkeys(names.split(", "), " ".join(_MARKUP.sub("", text).split()))
    return _MARKUP.sub("", parts[0]).strip(), documented


def _given_by_code(entries: Registry[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Arguments that no config names, and those that may be left to the program."""
    if entries is registry.TASKS:
        return ("config",), ()
    schemas = [Config, *(task.config_class for task in registry.TASKS.values())]
    marks = [mark for schema in schemas for mark in _marks(schema) if mark.registry is entries]
    return tuple(name for m in marks for name in m.runtime), tuple(name for m in marks for name in m.filled)


def _marks(annotation: Any) -> list[Of]:
    """Every `Of` in the schema below an annotation."""
    found = [annotation] if isinstance(annotation, Of) else []
    for field in getattr(annotation, "model_fields", {}).values():
        found += [mark for part in (field.annotation, *field.metadata) for mark in _marks(part)]
    for part in getattr(annotation, "__args__", ()):
        found += _marks(part)
    return found + [mark for part in getattr(annotation, "__metadata__", ()) for mark in _marks(part)]


def _type(parameter: inspect.Parameter) -> str:
    return "any" if parameter.annotation is parameter.empty else _plain(parameter.annotation)


def _plain(annotation: Any) -> str:
    """An annotation as one reads it: ``int`` for a bounded int, ``"a" or "b"`` for a literal."""
    if isinstance(annotation, str):  # torch's own names are not all importable
        return annotation
    arguments = getattr(annotation, "__args__", ())
    if hasattr(annotation, "__metadata__"):
        bounds = [text for mark in annotation.__metadata__ for text in _bounds(mark)]
        return _plain(annotation.__origin__) + (f" ({', '.join(bounds)})" if bounds else "")
    origin = get_origin(annotation)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_plain, arguments))
    if origin is not None:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(_plain, arguments))}]"
    if annotation is type(None):
        return "null"
    return "..." if annotation is Ellipsis else getattr(annotation, "__name__", str(annotation))


def _bounds(mark: Any) -> list[str]:
    if isinstance(mark, PathMark):
        return ["path"]
    words = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "min_length": "length >=", "max_length": "length <="}
    marks = [mark, *getattr(mark, "metadata", ())]
    values = [(sign, getattr(m, key, None)) for m in marks for key, sign in words.items()]
    return [f"{sign} {value}" for sign, value in values if isinstance(value, int | float)]


def _default(parameter: inspect.Parameter, filled: tuple[str, ...]) -> str:
    if parameter.name in filled:
        return ", by default from the run"
    return ", required" if parameter.default is parameter.empty else f" = {parameter.default!r}"


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m hw_base.list``; the exit code."""
    parser = Parser("python -m hw_base.list", "List what a config may name.", ["", "models", "models DeepSpeech2"])
    cli.add_import(parser)
    parser.add_argument("kind", nargs="?", help=", ".join(REGISTRIES))
    parser.add_argument("name", nargs="?", help="one of them, in full")
    arguments = parser.parse_args(argv)

    def work() -> int:
        task_packages.import_all()
        kind = (arguments.kind or "").lower()
        if kind and kind not in REGISTRIES:
            raise ConfigError(f"no kind is named {arguments.kind!r}. {suggest(kind, list(REGISTRIES))}")
        if arguments.name:
            print(describe(kind, arguments.name))
        else:
            print("\n\n".join(overview(k) for k in ([kind] if kind else REGISTRIES)))
        return 0

    return cli.run(work, arguments.imports)


if __name__ == "__main__":
    sys.exit(main())

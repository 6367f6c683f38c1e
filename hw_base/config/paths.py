"""``~`` and ``$NAME`` in the paths of a config.

An argument is a path where its class annotates it with `hw_base.config.schema.PathText`; no other text is looked at.
Paths are expanded when a config file is read and when ``--set`` gives them, so that a run's checkpoint holds what they
were. Those in the config of a checkpoint are taken as they are written: a checkpoint may be untrusted, and must not
read the environment of whoever opens it.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from hw_base.config.schema import Config, Of, PathMark
from hw_base.config.signatures import arguments_model
from hw_base.config.walk import Path, place, sites
from hw_base.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_Found = tuple[Path, str, Callable[[str], None]]


def expand(tree: dict[str, Any], within: Path = ()) -> None:
    """Expand the paths of a raw config in place.

    Args:
        tree: what a file says, perhaps not a valid config.
        within: only those that lie below this place, or at it.

    Raises:
        ConfigError: a variable is not set, or a user is not known.
    """
    problems = []
    for path, text, put in list(_paths(tree)):
        if path[: len(within)] == within:
            try:
                put(_expanded(text))
            except ConfigError as error:
                problems.append(f"{place(path)}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))


def _expanded(text: str) -> str:
    for match in _VARIABLE.finditer(text):
        name = match[1] or match[2]
        if name not in os.environ:
            raise ConfigError(f"the variable ${name} in {text!r} is not set in the environment")
    expanded = os.path.expanduser(os.path.expandvars(text))
    if text.startswith("~") and expanded.startswith("~"):
        raise ConfigError(f"{text!r} names no user of this machine; write ./{text} for a file of that name")
    return expanded


def _paths(tree: dict[str, Any]) -> Iterator[_Found]:
    for site in sites(Config, tree):
        if isinstance(site.raw, dict):
            yield from _fields(dict(site.section.model_fields), site.path, site.raw)
            if site.of is not None:
                yield from _arguments(site.of, site.path, site.raw)


def _arguments(of: Of, path: Path, raw: Any) -> Iterator[_Found]:
    """The paths among the arguments of a component, and of components among them."""
    name = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(name, str) or not isinstance(raw.get("args"), dict):
        return
    name = of.registry.renamed.get(name, name)
    if name not in of.registry:
        return
    fields = dict(arguments_model(of.registry[name], of.runtime, of.filled).model_fields)
    yield from _fields(fields, (*path, "args"), raw["args"])
    for key, field in fields.items():
        inner = next((mark for mark in field.metadata if isinstance(mark, Of)), None)
        if inner is not None and key in raw["args"]:
            yield from _arguments(inner, (*path, "args", key), raw["args"][key])


def _fields(fields: dict[str, FieldInfo], path: Path, raw: dict[str, Any]) -> Iterator[_Found]:
    for name, field in fields.items():
        if isinstance(raw.get(name), str) and _is_path(field.annotation, field.metadata):
            yield (*path, name), raw[name], lambda text, name=name: raw.__setitem__(name, text)  # type: ignore[misc]


def _is_path(annotation: Any, marks: list[Any]) -> bool:
    if any(isinstance(mark, PathMark) for mark in marks):
        return True
    return any(isinstance(part, PathMark) or _is_path(part, []) for part in get_args(annotation))

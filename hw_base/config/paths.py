"""``~`` and ``$NAME`` in the paths of a config.

An argument is a path where its class annotates it with `hw_base.config.schema.PathText`; no other text is looked at.
Paths are expanded when a config file is read and when ``--set`` gives them, so that a run's checkpoint holds what they
were. Those in the config of a checkpoint are taken as they are written: a checkpoint may be untrusted, and must not
read the environment of the user who opens it.
"""

import fnmatch
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo

from hw_base.config.schema import Of, PathMark
from hw_base.config.signatures import arguments_model
from hw_base.config.walk import Path, place, sites
from hw_base.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
# Sections whose components are left out where a file of theirs is not opened: without it they would be something else.
_LEFT_OUT = ("decoders", "metrics", "augmentations")
_Found = tuple[Path, str, Callable[[str | None], None]]


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


def distrust(tree: dict[str, Any], given: Iterable[str]) -> list[str]:
    """Take out of a checkpoint's config, in place, what would open other files, fill folders or use the network.

    Whoever made the checkpoint may have chosen it. Decoders, metrics and augmentations that need a file are left out,
    other paths are set to null. The recordings of a split are read: that is what a test does.

    Args:
        tree: the config of the checkpoint, with what was laid over it.
        given: sections and keys, ``decoders``, ``decoders.beam.args.lm``, that the command line gave.

    Returns:
        The places, for a message.

    Raises:
        ConfigError: a decoder or metric is changed whose file was not given.
    """
    named, left_out, gone = [key.split(".") for key in given], [], []
    for path, text, put in list(_paths(tree)):
        if path[0] == "init_from" or (path[0] == "data" and path[-1] != "cache_dir") or _gives(named, path):
            continue
        where = place(path)
        if path[0] in _LEFT_OUT:
            where = place(path[:2])
            if any(_matches(key[:2], path[:2]) for key in named if len(key) > 2):
                raise ConfigError(
                    f"{where}: needs {text!r}, which only the checkpoint names: give it with --set {place(path)}={text}"
                )
            gone.append(path[:2])
        else:
            put(None)
        left_out.append(where)
    for section, key in reversed(list(dict.fromkeys(gone))):  # the last of a list first
        del tree[str(section)][key]
    if ("decoders", tree.get("decoder")) in gone and ["decoder"] not in named:
        del tree["decoder"]
    return list(dict.fromkeys(left_out)) + _downloads(tree, named)


def _gives(named: Iterable[list[str]], path: Path) -> bool:
    """Whether one of the keys is a place or a section around it."""
    return any(_matches(key, path[: len(key)]) for key in named)


def _matches(key: list[str], path: Path) -> bool:
    return len(key) == len(path) and all(map(fnmatch.fnmatchcase, map(str, path), key))


def _downloads(tree: dict[str, Any], named: list[list[str]]) -> list[str]:
    found = []
    for site in sites(tree):
        arguments = site.raw.get("args") if isinstance(site.raw, dict) else None
        where = (*site.path, "args", "download")
        if isinstance(arguments, dict) and arguments.get("download") and not _gives(named, where):
            arguments["download"] = False
            found.append(place(where))
    return found


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
    for site in sites(tree):
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

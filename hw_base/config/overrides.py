"""``--set KEY=VALUE``: changes to a config that is read but not checked yet."""

import fnmatch
import logging
from collections.abc import Iterable, Iterator
from typing import Any

from hw_base.config.paths import expand
from hw_base.config.read import MAX_DEPTH, parse_value
from hw_base.config.schema import EXCLUSIVE
from hw_base.config.walk import Path, place
from hw_base.errors import ConfigError

log = logging.getLogger(__name__)


class Overrides:
    """What the command line changes, applied in its order.

    A key is a path such as ``trainer.max_steps``; places in lists are numbers; ``*`` stands for every key or place
    that is there, ``test*`` for those that begin so. Below a bare component name ``type`` and ``args`` may be set.

    Args:
        texts: ``KEY=VALUE``, the value in YAML.

    Attributes:
        errors: what could not be applied: message by what was given.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = list(texts)
        self._given: set[Path] = set()
        self.errors: dict[str, str] = {}

    def apply(self, tree: dict[str, Any], only: str | None = None, without: str | None = None) -> None:
        """Change a tree in place.

        Args:
            tree: raw config.
            only: nothing but this key.
            without: everything but this key.
        """
        for text in self._texts:
            key, equals, value = text.partition("=")
            if key == without or only not in (None, key):
                continue
            if not equals or not key:
                self.errors[f"--set {_short(text)}"] = "expected KEY=VALUE, for example trainer.max_steps=100"
                continue
            try:
                self._apply_one(tree, key, value)
            except ConfigError as error:
                where, _, message = str(error).partition(": ")
                self.errors[where] = message

    def _apply_one(self, tree: dict[str, Any], key: str, text: str) -> None:
        keys, where = key.split("."), f"--set {_short(key)}"
        if len(keys) > MAX_DEPTH:
            raise ConfigError(f"{where}: {len(keys)} levels; a config has at most {MAX_DEPTH}")
        value = parse_value(text, where)
        try:
            places = list(_places(tree, keys, ()))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
        if not places:
            raise ConfigError(f"{where}: * matches nothing there")
        for path, holder, last in places:
            if last == "type":
                self._drop_arguments(path, holder, value)
            holder[last] = parse_value(text, where) if len(places) > 1 else value  # no two places share a list
            self._given.add(path)
            self._drop_exclusive(path, holder, value)
            expand(tree, path)

    def _drop_arguments(self, path: Path, component: dict[str, Any], new: Any) -> None:
        """Another class has other arguments: the old one's are dropped, except those that the command line gave."""
        old, args = component.get("type"), component.get("args")
        if old in (None, new) or not isinstance(args, dict):
            return
        dropped = [name for name in args if (*path[:-1], "args", name) not in self._given]
        for name in dropped:
            del args[name]
        if dropped:
            names = ", ".join(dropped)
            log.info("--set %s: %s instead of %s; dropped the arguments of %s: %s", place(path), new, old, old, names)

    def _drop_exclusive(self, path: Path, holder: Any, value: Any) -> None:
        other = EXCLUSIVE.get(path)
        if other is None or value is None or other in self._given or holder.get(other[-1]) is None:
            return
        log.info("--set %s=%s: replaces %s=%s", place(path), value, place(other), holder.pop(other[-1]))


def _places(node: Any, keys: list[str], here: Path) -> Iterator[tuple[Path, Any, Any]]:
    """Where a key leads: path, what holds it, and its key or place there; sections on the way are made."""
    key, *rest = keys
    if isinstance(node, list):
        positions: list[Any] = _list_places(node, key, here)
    elif isinstance(node, dict):
        positions = [name for name in node if fnmatch.fnmatchcase(name, key)] if "*" in key else [key]
    else:
        raise ConfigError(f"{place(here)} is {_short(repr(node))}, which has no keys")
    for position in positions:
        path = (*here, position)
        if not rest:
            yield path, node, position
            continue
        below = node.setdefault(position, {}) if isinstance(node, dict) else node[position]
        if isinstance(below, str):  # a bare component name
            below = node[position] = {"type": below}
        yield from _places(below, rest, path)


def _list_places(node: list[Any], key: str, here: Path) -> list[int]:
    if key == "*":
        return list(range(len(node)))
    if not (key.isascii() and key.isdigit()) or len(key) > 9 or int(key) >= len(node):
        raise ConfigError(f"{place(here)} is a list of {len(node)}; use a number from 0, or *")
    return [int(key)]


def _short(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= 100 else text[:97] + "..."

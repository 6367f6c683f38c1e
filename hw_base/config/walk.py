"""Walks a config and its schema side by side, so that what holds for a place is declared once, at the field."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from hw_base.config.schema import Config, Of, Section
from hw_base.registry import TASKS

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Site:
    """One section as it stands in the file.

    Attributes:
        path: keys and list places from the root.
        section: the schema's class for this place.
        of: the registry it is built from, for components.
        raw: what the file says there.
        replace: puts something else in its place.
    """

    path: Path
    section: type[Section]
    of: Of | None
    raw: Any
    replace: Callable[[Any], None]


def place(path: Path) -> str:
    """A path as it is written in messages and on the command line."""
    return ".".join(map(str, path)) or "config"


def schema_of(tree: dict[str, Any]) -> type[Config]:
    """The schema of a raw config: that of its task, where that is registered."""
    task = tree.get("task")
    schema: type[Config] = TASKS[task].config_class if isinstance(task, str) and task in TASKS else Config
    return schema


def sites(tree: dict[str, Any]) -> list[Site]:
    """Every section of a raw config as its task's schema has it, the root first."""
    return list(_walk(schema_of(tree), (), (), tree, lambda value: None))


def _walk(
    annotation: Any, marks: tuple[Any, ...], path: Path, raw: Any, replace: Callable[[Any], None]
) -> Iterator[Site]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *extra = get_args(annotation)
        yield from _walk(inner, (*marks, *extra), path, raw, replace)
    elif origin in (Union, UnionType):
        for option in get_args(annotation):
            if option is not type(None) and raw is not None:
                yield from _walk(option, marks, path, raw, replace)
    elif origin in (list, dict) and isinstance(raw, origin):
        for key, item in enumerate(raw) if origin is list else raw.items():
            yield from _walk(get_args(annotation)[-1], (), (*path, key), item, _setter(raw, key))
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield Site(path, annotation, next((m for m in marks if isinstance(m, Of)), None), raw, replace)
        if isinstance(raw, dict):
            for name, field in annotation.model_fields.items():
                if name in raw:
                    yield from _walk(
                        field.annotation, tuple(field.metadata), (*path, name), raw[name], _setter(raw, name)
                    )


def _setter(container: Any, key: str | int) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        container[key] = value

    return put

"""A config file and its overrides -> a checked, complete `Config` -> components.

A component's ``args`` are the keywords of the class named beside them: the constructor's signature is the schema and
nothing is declared twice. Everything that is wrong is reported at once, each with its full path, before any work.
"""

import copy
import inspect
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hw_base import task_packages
from hw_base.config import read as config_files
from hw_base.config.overrides import Overrides
from hw_base.config.paths import expand
from hw_base.config.schema import Component, Config, Of
from hw_base.config.signatures import arguments_model
from hw_base.config.upgrade import upgrade
from hw_base.config.walk import Site, place, schema_of, sites
from hw_base.errors import ConfigError
from hw_base.registry import TASKS, Registry, suggest

Errors = dict[str, str]


def load(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read, override and check a config file.

    Args:
        path: JSON or YAML file.
        overrides: ``KEY=VALUE``, see `hw_base.config.overrides.Overrides`.

    Raises:
        ConfigError: one line for everything that is wrong.
    """
    return resolve(read(path), overrides)


def resolve(
    raw: Mapping[str, Any],
    overrides: Iterable[str] = (),
    checkpoint: str | Path | None = None,
    laid_over: Mapping[str, Any] | None = None,
) -> Config:
    """Override, complete and check a config that is already read; `raw` stays as it is.

    Args:
        raw: what a file or a checkpoint says.
        overrides: ``KEY=VALUE``, see `hw_base.config.overrides.Overrides`.
        checkpoint: where `raw` is from, if not from a file; messages name it.
        laid_over: sections of `raw` that a config file has put in place of the checkpoint's.

    Raises:
        ConfigError: one line for everything that is wrong.
    """
    try:
        return _resolve(raw, overrides)
    except ConfigError as error:
        if checkpoint is None:
            raise
        given = [*(laid_over or {}), *(text.partition("=")[0] for text in overrides), "--set"]
        note = f" (in the config of the checkpoint {checkpoint})"
        lines = str(error).splitlines()
        raise ConfigError("\n".join(x if x.startswith(tuple(given)) else x + note for x in lines)) from None


def _resolve(raw: Mapping[str, Any], overrides: Iterable[str]) -> Config:
    tree: dict[str, Any] = copy.deepcopy(dict(raw))
    given = Overrides(overrides)
    given.apply(tree, only="task")
    task_packages.import_task(tree.get("task"))
    upgrade(tree)
    if _known_task(tree):  # before the other overrides, which may change a default
        TASKS[tree["task"]].complete(tree)
    given.apply(tree, without="task")
    upgrade(tree)
    errors = given.errors
    if not _known_task(tree):
        found = TASKS.unknown(tree["task"]) if "task" in tree else f"required, but missing. {suggest('', TASKS)}"
        errors["task"] = found
        raise _config_error(errors)
    task = TASKS[tree["task"]]
    task.complete(tree)
    errors |= _section_errors(tree)
    for site in sites(tree):
        errors |= _component_errors(site)
    if errors:
        raise _config_error(errors)
    _write_defaults(tree)
    config = schema_of(tree).model_validate_json(json.dumps(tree))
    errors = task.check(config)
    if errors:
        raise _config_error(errors)
    return config


def read(path: str | Path) -> dict[str, Any]:
    """What a config file says, with ``~`` and ``$NAME`` in its paths expanded; not checked yet.

    Raises:
        ConfigError: see `hw_base.config.read.read` and `hw_base.config.paths.expand`.
    """
    tree = config_files.read(path)
    task_packages.import_task(tree.get("task"))  # whose classes say which arguments are paths
    expand(tree)
    return tree


def _known_task(tree: Mapping[str, Any]) -> bool:
    return isinstance(tree.get("task"), str) and tree["task"] in TASKS


def as_dict(config: Config) -> dict[str, Any]:
    """The config as plain JSON containers, complete; reading it again gives an equal config."""
    plain: dict[str, Any] = config.model_dump(mode="json")
    return plain


def build(where: str, component: Component, registry: Registry[Any], **runtime: Any) -> Any:
    """Build what a component names.

    Args:
        where: path in the config, for messages.
        component: the checked section.
        registry: where its type is looked up.
        runtime: what only code knows; given as far as the constructor asks for it.

    Raises:
        ConfigError: an argument does not fit, or the constructor refuses the combination.
    """
    if component.type not in registry:
        raise ConfigError(f"{where}.type: {registry.unknown(component.type)}")
    target = registry[component.type]
    accepted = inspect.signature(target).parameters
    checked = arguments_model(target, tuple(runtime), ()).model_validate_json(json.dumps(component.args))
    values = dict(checked)
    arguments = {name: values[name] for name in component.args}
    try:
        return target(**arguments, **{name: value for name, value in runtime.items() if name in accepted})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        if not target.__module__.startswith("torch."):  # a fault of ours, which must not pass for the user's
            raise
        raise ConfigError(f"{where}: {component.type} refuses its arguments: {error}") from None


def nested_errors(component: Component, registry: Registry[Any], runtime: tuple[str, ...] = ()) -> Errors:
    """What is wrong with a component within another one's arguments: path within it -> message.

    Args:
        component: as the config has it.
        registry: where its type is looked up.
        runtime: arguments that the other component provides.
    """
    raw = {"type": component.type, "args": component.args}
    return _component_errors(Site((), Component, Of(registry, runtime), raw, lambda value: None))


def _section_errors(tree: dict[str, Any]) -> Errors:
    try:
        schema_of(tree).model_validate_json(json.dumps(tree))
    except ValidationError as error:
        fields = {site.path: list(site.section.model_fields) for site in sites(tree)}
        return _explain(error, (), tree, fields)
    return {}


def _component_errors(site: Site) -> Errors:
    """What is wrong with the name and the arguments of one component."""
    if site.of is None:
        return {}
    raw = {"type": site.raw} if isinstance(site.raw, str) else site.raw
    if not isinstance(raw, dict) or not isinstance(raw.get("type"), str) or not isinstance(raw.get("args", {}), dict):
        return {}  # the sections' own check reports it
    registry = site.of.registry
    if raw["type"] not in registry:
        return {place((*site.path, "type")): registry.unknown(raw["type"])}
    args: dict[str, Any] = raw.get("args", {})
    where = (*site.path, "args")
    errors: Errors = {}
    for name in site.of.runtime:
        if name in args:
            errors[place((*where, name))] = "set by the program; leave it out of the config"
    args = {name: value for name, value in args.items() if name not in site.of.runtime}
    model = arguments_model(registry[raw["type"]], site.of.runtime, site.of.filled)
    try:
        model.model_validate_json(json.dumps(args))
    except ValidationError as error:
        errors |= _explain(error, where, args, {(): list(model.model_fields)})
    return errors


def _explain(
    error: ValidationError, where: tuple[str | int, ...], raw: Any, fields: Mapping[tuple[str | int, ...], list[str]]
) -> Errors:
    errors: Errors = {}
    for problem in error.errors():
        path, value = _found(problem["loc"], raw)
        if problem["type"] == "needs_python_object":  # a Tensor or an object as the alternative to a plain value
            continue
        if problem["type"] == "extra_forbidden":
            message = f"unknown key. {suggest(str(path[-1]), fields.get(path[:-1], []))}"
        elif problem["type"] == "missing":
            few = isinstance(value, list)
            message = f"too few values, found {_short(value)}" if few else "required, but missing"
        else:
            expectation = problem["msg"].replace("Input should be", "expected").removeprefix("Value error, ")
            message = f"{expectation}, found {_short(value)}"
        key = place((*where, *path))
        if key in errors and message not in errors[key]:
            message = f"{errors[key]}; or {message}"
        errors[key] = message
    return errors


def _found(loc: tuple[str | int, ...], raw: Any) -> tuple[tuple[str | int, ...], Any]:
    """The part of a location that is a path in the file (unions add names of their own), and what stands there."""
    path: list[str | int] = []
    value = raw
    for depth, key in enumerate(loc):
        in_list = isinstance(value, list) and isinstance(key, int) and key < len(value)
        inside = key in value if isinstance(value, dict) else in_list
        if not inside:
            missing = isinstance(value, dict) and depth == len(loc) - 1
            return ((*path, key) if missing else tuple(path)), (None if missing else value)
        value = value[key]
        path.append(key)
    return tuple(path), value


def _short(value: Any) -> str:
    text = json.dumps(value) if isinstance(value, dict | list) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _config_error(errors: Errors) -> ConfigError:
    return ConfigError("\n".join(f"{where}: {message}" for where, message in errors.items()))


def _write_defaults(tree: dict[str, Any]) -> None:
    """Write every default of every component into the tree, so that a saved config says all that was used."""
    for site in sites(tree):
        if site.of is None:
            continue
        raw: dict[str, Any] = {"type": site.raw} if isinstance(site.raw, str) else site.raw
        model = arguments_model(site.of.registry[raw["type"]], site.of.runtime, site.of.filled)
        args: dict[str, Any] = raw.setdefault("args", {})
        for name, field in model.model_fields.items():
            if name not in args and name not in site.of.filled and not field.is_required():
                args[name] = field.default
        site.replace(raw)

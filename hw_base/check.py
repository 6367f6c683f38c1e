# PYTHON_ARGCOMPLETE_OK
"""Check components against their contracts: ``python -m hw_base.check models MyModel --import my_homework``."""

import argparse
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_base import task_packages
from hw_base.checks.contract import Candidate, Outcome
from hw_base.checks.examples import example_args
from hw_base.checks.table import CHECKS, REGISTRIES
from hw_base.errors import ConfigError, HwError
from hw_base.registry import suggest
from hw_base.runs import cli
from hw_base.runs.parser import Parser
from hw_base.texts.files import from_json

ALL = "all"


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 where all properties hold, 1 where some do not, 2 where what was given is wrong."""
    parser = Parser(
        "python -m hw_base.check",
        "Check components against their contracts.",
        ["models DeepSpeech2", "decoders MyBeamSearch --import my_homework", "all --json"],
    )
    parser.add_argument("kind", metavar="KIND", help=f"{', '.join(sorted(REGISTRIES))}, parts of models, or {ALL!r}")
    parser.add_argument("name", metavar="NAME", nargs="?", help="registered name, or module.Class; all if not given")
    cli.add_import(parser)
    parser.add_argument("--args", metavar="JSON", help="of the constructor; those of a config if not given")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args(argv)

    def work() -> int:
        task_packages.import_all()
        results = {title: outcomes for title, outcomes in _checked(arguments)}
        print(_as_json(results) if arguments.json else "\n".join(_lines(results)))
        return int(any(one.holds is False for outcomes in results.values() for one in outcomes))

    return cli.run(work, arguments.imports)


def _import(name: str) -> Any:
    """Import a package or module that lies in the current folder or is installed."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{name} cannot be imported: {error}; run where it lies, or install it") from error


def _checked(arguments: argparse.Namespace) -> Iterator[tuple[str, list[Outcome]]]:
    if arguments.kind != ALL and arguments.kind not in CHECKS:
        raise ConfigError(f"no kind of component is named {arguments.kind!r}. {suggest(arguments.kind, CHECKS)}")
    given = _given(arguments.args)
    if arguments.name is not None and arguments.kind != ALL:
        yield f"{arguments.kind} {arguments.name}", check(arguments.kind, arguments.name, given)
        return
    if given is not None:
        raise ConfigError("--args: name the component that they belong to")
    for kind in CHECKS if arguments.kind == ALL else [arguments.kind]:
        for name in names(kind):
            yield f"{kind} {name}", check(kind, name, None)


def names(kind: str) -> list[str]:
    """The components of a kind: those of its registry, and parts of models that checks list."""
    registered = list(REGISTRIES[kind]) if kind in REGISTRIES else []
    return registered + [name for entry in CHECKS[kind] for name in entry.parts]


def check(kind: str, name: str, given: dict[str, Any] | None = None) -> list[Outcome]:
    """The outcomes of one component; arguments as in `find`."""
    try:
        candidate = find(kind, name, given)
    except _NotBuildable as reason:
        return [Outcome("not checked", None, found=str(reason))]
    if kind == "datasets" and given is None:
        try:
            candidate.build()
        except HwError as error:
            return [Outcome("not checked", None, found=f"{error}; give --args '{{...}}'")]
    for entry in reversed(CHECKS[kind]):  # tasks declare theirs after the general ones
        if name in entry.parts or entry.applies(candidate.target):
            return entry.check(candidate)
    kinds = "; ".join(entry.what for entry in CHECKS[kind]) or "none yet"
    return [Outcome("not checked", None, found=f"there is no check for it; there are checks for {kinds}")]


class _NotBuildable(Exception):  # noqa: N818 - it is no error of the user's
    """A registered component needs arguments that no config gives."""


def find(kind: str, name: str, given: dict[str, Any] | None = None) -> Candidate:
    """A component by its name.

    Args:
        kind: as on the command line.
        name: registered, a part that a check lists, or ``module.Class``.
        given: arguments; None takes those of the first config that names it.

    Raises:
        ConfigError: there is no such component, or `given` does not fit.
    """
    parts = {key: value for entry in CHECKS[kind] for key, value in entry.parts.items()}
    registered: Mapping[str, Any] = REGISTRIES.get(kind, {})
    if name in parts:
        target, args = parts[name]
        return Candidate(name, target, args if given is None else given)
    if name in registered:
        known = given if given is not None else example_args(kind, name)
        if known is None:
            raise _NotBuildable("no config says how it is built; give --args '{...}'")
        return Candidate(name, registered[name], known)
    module, dot, attribute = name.rpartition(".")
    if not dot:
        raise ConfigError(
            f"no {kind} is named {name!r}. {suggest(name, names(kind))} Is its package given by --import?"
        )
    found = getattr(_import(module), attribute, None)
    if found is None:
        raise ConfigError(f"{module} has no {attribute!r}")
    return Candidate(attribute, found, given or {})


def _given(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = from_json(text)
    except ValueError as error:
        raise ConfigError(f"--args: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigError(f"--args: expected an object in braces, found {text}")
    return value


def _lines(results: dict[str, list[Outcome]]) -> Iterator[str]:
    for title, outcomes in results.items():
        yield title
        for one in outcomes:
            if one.holds is None:
                yield f"  -      {one.name}: {one.found}"
            elif one.holds:
                yield f"  ok     {one.name}"
            elif not one.expected:
                yield f"  FAILS  {one.name}; still to be written: {one.found}"
            else:
                yield f"  FAILS  {one.name}"
                yield f"           expected: {one.expected}"
                yield f"           found: {one.found}"
                yield f"           usual cause: {one.cause}"
    everything = [one for outcomes in results.values() for one in outcomes]
    counts = [sum(one.holds is holds for one in everything) for holds in (True, False, None)]
    yield f"{counts[0]} properties hold, {counts[1]} fail, {counts[2]} not claimed or not checked"


def _as_json(results: dict[str, list[Outcome]]) -> str:
    status = {True: "ok", False: "fails", None: "not checked"}
    components = [
        {
            "component": title,
            "properties": [
                {"name": o.name, "status": status[o.holds], "expected": o.expected, "found": o.found, "cause": o.cause}
                for o in outcomes
            ],
        }
        for title, outcomes in results.items()
    ]
    passed = all(one.holds is not False for outcomes in results.values() for one in outcomes)
    return json.dumps({"passed": passed, "components": components}, indent=2)


if __name__ == "__main__":
    sys.exit(main())

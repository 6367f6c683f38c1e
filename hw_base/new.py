# PYTHON_ARGCOMPLETE_OK
"""Begin a package of one's own beside the base: ``python -m hw_base.new my_homework --task asr``."""

import importlib
import importlib.util
import json
import keyword
import re
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hw_base
from hw_base import task_packages
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.runs import cli
from hw_base.runs.parser import Parser

_COMMON = Path(hw_base.__file__).resolve().parent / "starter"
_SUFFIX = ".jinja"
_ABOUT = "starter.json"
# What the address of a published repository may look like; one with a name or password in it does not match.
_PUBLIC = re.compile(r"(https://[\w.-]+/|git@[\w.-]+:)[\w./-]+")


@dataclass
class Holes:
    """What is left to be written: called by a template for each function that may be.

    Args:
        chosen: names, ``LengthRegulator.forward``; None leaves out all.

    Attributes:
        made: the names that a template asked for and that were left out.
    """

    chosen: Collection[str] | None = ()
    made: list[str] = field(default_factory=list)

    def __call__(self, name: str) -> bool:
        if self.chosen is not None and name not in self.chosen:
            return False
        self.made.append(name)
        return True


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m hw_base.new``; the exit code."""
    parser = Parser(
        "python -m hw_base.new",
        "Begin a package of one's own, with a config, parts, tests and their automation.",
        ["my_homework --task asr", "my_voice --task tts --course"],
    )
    parser.add_argument(
        "name", metavar="NAME", help="of the package and of its folder, which is made here: my_homework"
    )
    parser.add_argument("--task", required=True, choices=sorted(task_packages.STARTERS), help="what it is about")
    parser.add_argument(
        "--course", action="store_true", help="leave out what courses grade: functions that raise NotImplementedError"
    )
    arguments = parser.parse_args(argv)

    def work() -> int:
        holes = Holes(None if arguments.course else ())
        folder = create(arguments.name, arguments.task, holes)
        print(f"{folder}/README.md says what to do next")
        for name in holes.made:
            print(f"  to be written: {name}")
        return 0

    return cli.run(work)


def create(name: str, task: str, holes: Holes | None = None, parent: Path | None = None) -> Path:
    """Write the package.

    Args:
        name: of the package; must be free.
        task: a key of `hw_base.task_packages.STARTERS`.
        holes: what is left out; by default nothing.
        parent: of its folder; by default the current one.

    Raises:
        ConfigError: the name cannot be that of a package, or something has it already.
        MissingPackageError: Jinja2 is not installed.
    """
    _check_name(name)
    environment = _environment()  # before anything is made
    holes = Holes() if holes is None else holes
    folder = (parent or Path.cwd()) / name
    try:
        folder.mkdir()
    except FileExistsError:
        raise ConfigError(f"{folder}: exists already; choose another name, or remove it") from None
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
    own = Path(str(importlib.import_module(task_packages.STARTERS[task]).__file__)).parent / "starter"
    values = {"name": name, "prefix": "".join(part.capitalize() for part in name.split("_")), "task": task}
    values["base"] = _address()
    about = json.loads(_render(environment, own / f"{_ABOUT}{_SUFFIX}", values))
    modules = sorted(Path(file).stem for file, _ in about["files"])
    known = {**values, **about, "modules": modules, "hole": holes, "holes": holes.made}
    templates = {path.relative_to(root): path for root in (own, _COMMON) for path in sorted(root.rglob(f"*{_SUFFIX}"))}
    # The README lists the holes of the others, so it is last.
    for relative in sorted(templates, key=lambda path: path.name.startswith("README")):
        target = folder / relative.with_suffix("")
        if target.name != _ABOUT:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_render(environment, templates[relative], known), encoding="utf-8")
    return folder


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name}: expected a name of small letters, digits and _, such as my_homework")
    taken = importlib.util.find_spec(name)
    if taken is not None and taken.origin is not None:  # a folder that is no package has none
        raise ConfigError(f"{name}: a package of this name is installed or lies here already; choose another name")


def _address() -> str:
    """Where the base's repository is published, for its clone in automation; ``ADDRESS`` where that is not known."""
    command = ["git", "remote", "get-url", "origin"]
    try:
        done = subprocess.run(command, cwd=_COMMON, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "ADDRESS"
    address = done.stdout.strip()
    return address if _PUBLIC.fullmatch(address) else "ADDRESS"


def _environment() -> Any:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise MissingPackageError("hw_base.new", "Jinja2") from error
    return Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)


def _render(environment: Any, template: Path, values: dict[str, Any]) -> str:
    return str(environment.from_string(template.read_text(encoding="utf-8")).render(**values))


if __name__ == "__main__":
    sys.exit(main())

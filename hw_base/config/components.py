"""Packages outside this repository whose components join the registries: ``--import PACKAGE``.

Nothing is imported because a file says so: a checkpoint only notes what it was trained with, and asks for it.
"""

import importlib
import logging
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from hw_base.config.schema import Config
from hw_base.config.walk import sites
from hw_base.errors import ConfigError

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_OWN = frozenset({"hw_base", "hw_asr", "hw_tts", "torch"})
_imported: list[str] = []


def import_packages(names: Iterable[str]) -> None:
    """Import packages by name, also those in the current folder; what they register may then be named in configs.

    Args:
        names: as in an import statement, ``my_homework`` or ``my_homework.models``.

    Raises:
        ConfigError: not such a name, no such package, or it cannot be imported.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise ConfigError(f"--import {name}: expected the name of a package, such as my_homework, not a path")
        if str(Path.cwd()) not in sys.path and "" not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                here = "it must lie in the current folder or on PYTHONPATH, or be installed"
                raise ConfigError(f"--import {name}: there is no such package; {here}") from None
            raise ConfigError(f"--import {name}: it cannot be imported: {error}") from error
        except Exception as error:
            raise ConfigError(f"--import {name}: it cannot be imported: {type(error).__name__}: {error}") from error
        if name not in _imported:
            _imported.append(name)


def packages_of(config: Config) -> list[str]:
    """The packages outside this project whose components a config names, as they are to be given to ``--import``."""
    found: set[str] = set()
    for site in sites(config.model_dump(mode="json")):
        name = site.raw.get("type") if isinstance(site.raw, dict) else site.raw
        if site.of is not None and isinstance(name, str) and name in site.of.registry:
            found.add(_package_of(site.of.registry[name].__module__))
    return sorted(found - _OWN)


def require(packages: Iterable[str], source: str | Path) -> None:
    """Check that the packages a checkpoint notes are imported.

    Raises:
        ConfigError: one is not; the message says how to import it.
    """
    missing = [name for name in packages if name not in sys.modules]
    if missing:
        flags = " ".join(f"--import {name}" for name in missing)
        raise ConfigError(f"{source}: was trained with components of {', '.join(missing)}: add {flags}")


def unwritten(error: NotImplementedError) -> str:
    """What is still to be written, and where: ``BeamSearch.search (my_homework/decoder.py, line 40): what to do``."""
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split()) or "not written yet"
    if not frames:
        return text
    name = frames[-1].name
    path = Path(frames[-1].filename)
    place = f"{path.parent.name}/{path.name}, line {frames[-1].lineno}"
    part, colon, what = text.partition(":")
    return f"{part} ({place}){colon}{what}" if colon and part.endswith(name) else f"{name} ({place}): {text}"


def _package_of(module: str) -> str:
    """The name that was given to ``--import`` for a module, else its topmost package."""
    for name in sorted(_imported, key=len, reverse=True):
        if module == name or module.startswith(f"{name}."):
            return name
    return module.partition(".")[0]

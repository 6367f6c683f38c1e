"""Files that the programs leave for people and scripts."""

import json
import os
from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError


def write_json(path: Path, value: Any, option: str = "--output") -> None:
    """Write atomically: a reader finds the old file or the new one.

    Raises:
        ConfigError: it cannot be written; `option` says who asked for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(path.name + ".tmp")
        scratch.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(scratch, path)
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be written: {error.strerror}") from None


def file_name(identifier: str, suffix: str, option: str = "--output") -> str:
    """The name of one utterance's file.

    Raises:
        ConfigError: the id would leave the folder.
    """
    name = f"{identifier}{suffix}"
    if Path(name).name != name:
        raise ConfigError(f"{option}: the id {identifier!r} cannot be a file name")
    return name

"""Files that the programs leave for people and scripts."""

from pathlib import Path

from hw_base.errors import ConfigError


def file_name(identifier: str, suffix: str, option: str = "--output") -> str:
    """The name of one utterance's file.

    Raises:
        ConfigError: the id would leave the folder.
    """
    name = f"{identifier}{suffix}"
    if Path(name).name != name:
        raise ConfigError(f"{option}: the id {identifier!r} cannot be a file name")
    return name

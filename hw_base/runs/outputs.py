"""Files that the programs leave for people and scripts."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_base import distributed, storage
from hw_base.data.split import Split
from hw_base.errors import ConfigError
from hw_base.texts.files import from_json

log = logging.getLogger(__name__)

Row = dict[str, Any]


def file_name(identifier: str, suffix: str, option: str = "--output") -> str:
    """The name of one utterance's file.

    Raises:
        ConfigError: the id would leave the folder.
    """
    name = f"{identifier}{suffix}"
    if Path(name).name != name:
        raise ConfigError(f"{option}: the id {identifier!r} cannot be a file name")
    return name


def in_order(rows: Sequence[Row], split: Split) -> list[Row]:
    """The rows (each with its ``id``) of all processes, in the order of the data; the same on every process."""
    found = {row["id"]: row for part in distributed.gather(list(rows)) for row in part}
    return [found[record.utterance_id] for record in split.records if record.utterance_id in found]


def add_metrics(output: Path, about: Mapping[str, Any], splits: Mapping[str, Mapping[str, float]]) -> Path:
    """Write the figures of one run of ``test.py`` into the ``metrics.json`` beside its output.

    The file holds ``{output's name: {**about, "splits": {split: figures}}}``; entries of other outputs stay as they
    are, also while another program adds its own.

    Args:
        output: the run's output file.
        about: what the figures are of: checkpoint, decoder.
        splits: figures by split.

    Returns:
        The file's path.

    Raises:
        ConfigError: it cannot be written.
    """
    path = output.with_name("metrics.json")
    digest = hashlib.blake2b(os.fsencode(path.resolve()), digest_size=8).hexdigest()
    with storage.exclusive(storage.cache_folder() / "locks" / digest):
        storage.write_json(path, {**_read_metrics(path), output.name: {**about, "splits": splits}})
    return path


def _read_metrics(path: Path) -> dict[str, Any]:
    """What earlier runs left; a file of another kind is moved aside."""
    try:
        content = from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        content = error
    if isinstance(content, dict):
        return content
    aside = path.with_name("metrics.json.other")
    log.warning("%s is not a JSON object; it is kept as %s", path, aside)
    try:
        os.replace(path, aside)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be moved aside: {error.strerror}") from None
    return {}

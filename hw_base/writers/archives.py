"""Offline archives of Comet, also from a process that was killed before it could make one."""

import os
import shutil
import zipfile
from pathlib import Path

from hw_base.storage import replacing

_EMPTY_ZIP_SIZE = 22  # Comet makes an empty archive at the start and fills it at the end


def collect(folder: Path) -> list[Path]:
    """Turn every fragment below a folder into an archive.

    Args:
        folder: ``comet`` inside a run folder; no process may be writing there.

    Returns:
        The archives that were made, in the order in which they must be uploaded.
    """
    if not folder.is_dir():
        return []
    fragments = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.isdigit())
    return [archive for archive in map(archive_fragment, fragments) if archive is not None]


def new_fragment(folder: Path) -> Path:
    """Make the folder of the next fragment, ``000``, ``001`` ...; what a killed process left is archived first."""
    collect(folder)
    taken = [int(path.stem) for path in folder.glob("*.zip") if path.stem.isdigit()] if folder.is_dir() else []
    fragment = folder / f"{max(taken, default=-1) + 1:03d}"
    fragment.mkdir(parents=True)
    return fragment


def archive_fragment(fragment: Path) -> Path | None:
    """Replace a fragment's folder by ``<folder>.zip``.

    Args:
        fragment: where one process's archive and temporary files lie.

    Returns:
        The archive, or None where nothing was ever reported.
    """
    target = fragment.with_suffix(".zip")
    finished = [path for path in fragment.glob("*.zip") if path.stat().st_size > _EMPTY_ZIP_SIZE]
    left = [path.parent for path in fragment.glob("*/messages.json") if path.stat().st_size]
    if left:
        _zip(left[0], target)
    elif finished:
        os.replace(finished[0], target)
    shutil.rmtree(fragment)
    return target if target.exists() else None


def _zip(scratch: Path, target: Path) -> None:
    """Zip what a killed process left; the last message counts only if it is a whole line."""
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(scratch.iterdir()):
            if path.name == "messages.json":
                messages = path.read_bytes()
                archive.writestr(path.name, messages[: messages.rfind(b"\n") + 1])
            elif path.is_file():
                archive.write(path, path.name)

"""What lists of files share: ids from their paths, unique and usable as names of files, and reports of bad lines."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path, PurePath

# In bytes. File systems take 255, and an extension comes on top.
_LONGEST = 200
_MAX_REPORTED = 10


def ids_from_paths(paths: Sequence[str], root: Path, whole: bool = True) -> list[str]:
    """An id for each path of a list: its folders and its name joined by ``_``, without the extension.

    What lies below `root` is named from there, whether its path is relative or absolute. The root folder and steps
    upwards (``..``) are no part of an id. Different files whose ids would be equal get a digest of their path besides.

    Args:
        paths: as the list has them, relative to `root` or absolute.
        root: the list's folder.
        whole: False takes the file's name alone where that is unique in the list.

    Returns:
        list[str]: in the same order; equal ids mean the same file.
    """
    places = [_below(path, root) for path in paths]
    names = [place.stem for place in places] if not whole else [_joined(place) for place in places]
    for form in (_joined, _digested):
        shared = _ambiguous(names, places)
        names = [form(place) if name in shared else name for name, place in zip(names, places, strict=True)]
    return [_shortened(name) for name in names]


def bad_lines(source: str, problems: Sequence[tuple[int, str]]) -> str:
    """The message about bad lines of a list: the first few by number, and how many more there are.

    Args:
        source: names the list.
        problems: number of the line, and what is wrong with it.
    """
    reported = [f"{source}, line {number}: {fault}" for number, fault in sorted(problems)[:_MAX_REPORTED]]
    more = len(problems) - _MAX_REPORTED
    return "\n".join(reported + ([f"{source}: {more} more bad lines"] if more > 0 else []))


def _below(path: str, root: Path) -> PurePath:
    """Where a file lies, from the root if it lies below that, with no steps upwards or on the spot."""
    full = os.path.abspath(root / path)
    relative = os.path.relpath(full, os.path.abspath(root))
    return PurePath(full if relative.startswith(os.pardir + os.sep) else relative)


def _joined(place: PurePath) -> str:
    return "_".join([*(part for part in place.parts[:-1] if part != place.anchor), place.stem])


def _digested(place: PurePath) -> str:
    return f"{_joined(place)}_{_digest(str(place))}"


def _ambiguous(names: Sequence[str], places: Sequence[PurePath]) -> set[str]:
    first: dict[str, PurePath] = {}
    return {name for name, place in zip(names, places, strict=True) if first.setdefault(name, place) != place}


def _shortened(name: str) -> str:
    if len(os.fsencode(name)) <= _LONGEST:
        return name
    end = os.fsencode(name)[-(_LONGEST - 20) :].decode("utf-8", "ignore")
    return f"{_digest(name)}_{end}"


def _digest(text: str) -> str:
    return hashlib.blake2b(os.fsencode(text), digest_size=4).hexdigest()

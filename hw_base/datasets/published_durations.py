"""Published durations of symbols: one NumPy file a line of the metadata, in a folder or a zip archive."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from hw_base.errors import DataError

# Of one file; the longest published has 188 symbols.
_MAX_BYTES = 1 << 20


class Durations:
    """The durations by line number.

    Args:
        source: of all files, for messages.
        members: name of the file in the archive, or path, by line number.
        archive: that holds the files, or None for files on the disk.
    """

    def __init__(self, source: Path, members: dict[int, str], archive: zipfile.ZipFile | None) -> None:
        self.source, self._members, self._archive = source, members, archive

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, line: int) -> bool:
        return line in self._members

    def read(self, line: int) -> list[int]:
        """The durations of one line, in frames.

        Raises:
            DataError: the file is damaged, or is not a list of whole numbers.
        """
        name = self._members[line]
        try:
            values = np.load(io.BytesIO(self._bytes(name)), allow_pickle=False)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.source}: {name} cannot be read: {error}") from error
        if values.ndim != 1 or values.dtype.kind not in "iu":
            raise DataError(
                f"{self.source}: {name}: expected a list of whole numbers, found {values.dtype} {values.shape}"
            )
        return [int(value) for value in values]

    def _bytes(self, name: str) -> bytes:
        if self._archive is None:
            with open(name, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
        else:
            with self._archive.open(name) as member:
                content = member.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES} bytes")
        return content


@contextmanager
def opened(source: Path) -> Iterator[Durations]:
    """The durations of a folder or zip archive of files ``<line>.npy``, counted from 0.

    Raises:
        DataError: it does not exist, is no archive, or holds no such file.
    """
    try:
        if source.is_dir():
            durations = Durations(source, _by_line(str(path) for path in source.iterdir()), None)
            yield _filled(durations)
        else:
            with zipfile.ZipFile(source) as archive:
                yield _filled(Durations(source, _by_line(archive.namelist()), archive))
    except FileNotFoundError:
        raise DataError(f"alignments: {source} does not exist; give the folder or zip archive of <line>.npy") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"alignments: {source} cannot be read: {error}") from error


def _by_line(names: Iterator[str] | list[str]) -> dict[int, str]:
    files = {name: PurePosixPath(name) for name in names}
    return {int(file.stem): name for name, file in files.items() if file.suffix == ".npy" and file.stem.isdecimal()}


def _filled(durations: Durations) -> Durations:
    if not len(durations):
        raise DataError(f"alignments: {durations.source} holds no files <line>.npy")
    return durations

"""Unpacking archives from untrusted sources: tar (plain, gzip, bzip2, xz) and zip."""

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from hw_base.errors import DataError

_BLOCK = 1 << 18
# Headers are read whole: a longer one is an attempt to fill the memory.
_MAX_HEADER = 1 << 20
_OPENERS: tuple[tuple[bytes, Any], ...] = (
    (b"\x1f\x8b", gzip.open),
    (b"BZh", bz2.open),
    (b"\xfd7zXZ", lzma.open),
)
# What tarfile and zipfile raise for malformed headers and for versions of zip that they do not know.
_MALFORMED = (NotImplementedError, ValueError, LookupError, ArithmeticError, struct.error, RecursionError)
# Name, whether it is a folder, content.
Member = tuple[str, bool, IO[bytes] | None]


def extract(
    archive: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    inside: str | None = None,
    max_bytes: int = 64 << 30,
    max_members: int = 1_000_000,
) -> Path:
    """Unpack an archive into a new folder, which appears only when everything is in it.

    For corpora and for submissions alike. Only plain files and folders are unpacked, with ordinary
    permissions. What the archive says of sizes is not believed: written bytes are counted. `tarfile.data_filter` and
    `ZipFile.extract` are not enough here: they mend names that lead elsewhere, where a submission's are refused, and
    know neither quotas nor names that collide.

    Args:
        archive: the file; its kind is found from its content.
        folder: must not exist yet.
        inside: unpack only what lies in this folder of the archive, without that prefix.
        max_bytes: of all files together.
        max_members: files and folders in the archive.

    Returns:
        Path: the folder.

    Raises:
        DataError: the folder exists; the archive is damaged, larger than allowed, or empty; or a member would lie
            elsewhere, is no plain file, or has the name of another. Nothing is left behind.
    """
    archive, folder = Path(archive), Path(folder)
    if os.path.lexists(folder):
        raise DataError(f"{folder}: exists already; remove it to unpack {archive} there")
    scratch = folder.with_name(f".{folder.name}.unpacking")
    try:
        if scratch.exists():  # of a process that was killed
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
        _Unpacking(archive, scratch, inside, max_bytes, max_members).run()
        os.replace(scratch, folder)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError) as error:
        raise DataError(f"{archive}: damaged, or not an archive: {error}") from error
    except _MALFORMED as error:
        reason = "its headers are nested" if isinstance(error, RecursionError) else error
        raise DataError(f"{archive}: damaged, or of a kind that is not read here: {reason}") from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked into {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return folder


class _Unpacking:
    """One archive on its way into one folder."""

    def __init__(self, archive: Path, folder: Path, inside: str | None, max_bytes: int, max_members: int) -> None:
        self.archive, self.folder = archive, folder
        self.inside = inside.strip("/").split("/") if inside else []
        self.max_bytes, self.max_members = max_bytes, max_members
        self.n_bytes = self.n_members = self.n_files = 0
        self.spellings: dict[str, str] = {}
        self.files: set[str] = set()

    def run(self) -> None:
        """Unpack everything."""
        with open(self.archive, "rb") as file:
            is_zip = file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
        members = self._zip_members() if is_zip else self._tar_members()
        with contextlib.closing(members):
            for name, is_folder, stream in members:
                self._take(name, is_folder, stream)
        if not self.n_files:
            where = f" in {'/'.join(self.inside)}" if self.inside else ""
            raise DataError(f"{self.archive}: holds no files{where}")

    def _take(self, name: str, is_folder: bool, stream: IO[bytes] | None) -> None:
        self.n_members += 1
        if self.n_members > self.max_members:
            raise DataError(f"{self.archive}: refused, it has more than {self.max_members} members")
        parts = self._parts(name)
        self._refuse_collision(parts, is_folder, name)
        if parts[: len(self.inside)] != self.inside or (is_folder and len(parts) <= len(self.inside)):
            return
        target = self.folder.joinpath(*parts[len(self.inside) :])
        if is_folder:
            target.mkdir(parents=True, exist_ok=True)
        elif stream is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._write(target, stream)
            self.n_files += 1

    def _write(self, target: Path, stream: IO[bytes]) -> None:
        with open(target, "xb") as file:
            while block := stream.read(_BLOCK):
                self._count(len(block))
                file.write(block)

    def _count(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        if self.n_bytes > self.max_bytes:
            raise DataError(f"{self.archive}: refused, it unpacks to more than {self.max_bytes / 1e6:.0f} MB")

    def _parts(self, name: str) -> list[str]:
        """The folders and the file of a member's name; it is refused if it leads anywhere else."""
        parts = [part for part in name.split("/") if part not in ("", ".")]
        hostile = name.startswith("/") or ".." in parts or "\\" in name or ":" in name.split("/")[0]
        if hostile or not name or any(unicodedata.category(c) == "Cc" for c in name):
            raise DataError(f"{self.archive}: refused, its member {name!r} would lie outside of the folder")
        return parts

    def _refuse_collision(self, parts: list[str], is_folder: bool, name: str) -> None:
        """Names that are one on some file systems: letters of either case, accents composed or not."""
        for depth in range(1, len(parts) + 1):
            path = "/".join(parts[:depth])
            folded = unicodedata.normalize("NFC", path).casefold()
            spelling = self.spellings.setdefault(folded, path)
            is_file = depth == len(parts) and not is_folder
            if spelling != path or folded in self.files:
                raise DataError(f"{self.archive}: refused, its members {spelling!r} and {name!r} have one name")
            if is_file:
                self.files.add(folded)

    def _tar_members(self) -> Generator[Member, None, None]:
        with open(self.archive, "rb") as file:
            head = file.read(6)
        opener = next((opener for magic, opener in _OPENERS if head.startswith(magic)), open)
        with opener(self.archive, "rb") as plain:
            yield from self._tar_members_of(plain)

    def _tar_members_of(self, plain: IO[bytes]) -> Generator[Member, None, None]:
        bounded: Any = _Bounded(plain, self.archive)
        with tarfile.TarFile(fileobj=bounded) as tar:
            # Without a first member, next() of Python 3.10 looks before the beginning of the file.
            while tar.offset and (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # a million of them would fill the memory
                if member.issparse():
                    raise DataError(f"{self.archive}: refused, its member {member.name!r} is a sparse file")
                if not (member.isreg() or member.isdir()):
                    raise DataError(f"{self.archive}: refused, its member {member.name!r} is a link or a device")
                if member.size > self.max_bytes:
                    raise DataError(f"{self.archive}: refused, it unpacks to more than {self.max_bytes / 1e6:.0f} MB")
                yield member.name, member.isdir(), tar.extractfile(member)
            self._drain(plain)

    def _drain(self, plain: IO[bytes]) -> None:
        """Read what is behind the last member: only padding, and at its very end the checksum of the compression."""
        while block := plain.read(_BLOCK):
            self._count(len(block))
            if block.strip(b"\0"):
                raise DataError(f"{self.archive}: damaged, there is data behind its last member")

    def _zip_members(self) -> Generator[Member, None, None]:
        with zipfile.ZipFile(self.archive) as archive:
            for member in archive.infolist():
                kind = stat.S_IFMT(member.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    raise DataError(f"{self.archive}: refused, its member {member.filename!r} is a link or a device")
                if member.flag_bits & 1:
                    raise DataError(f"{self.archive}: its member {member.filename!r} is encrypted")
                if member.is_dir():
                    yield member.orig_filename, True, None
                    continue
                try:
                    stream = archive.open(member)
                except (NotImplementedError, RuntimeError) as error:
                    raise DataError(f"{self.archive}: its member {member.filename!r}: {error}") from error
                with stream:
                    yield member.orig_filename, False, stream


class _Bounded:
    """A file from which no single read takes more than a header may have."""

    def __init__(self, file: IO[bytes], archive: Path) -> None:
        self._file, self._archive = file, archive
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER:
            raise DataError(f"{self._archive}: refused, a header in it has {size} bytes")
        return self._file.read(size)

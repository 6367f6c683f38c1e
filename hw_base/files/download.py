"""Downloads that survive cut connections and refuse what is not the file that was asked for."""

import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from hw_base import storage
from hw_base.errors import DataError
from hw_base.texts.files import from_json

log = logging.getLogger(__name__)

_BLOCK = 1 << 18
_RETRIED = (408, 425, 429)
_SECONDS_BETWEEN_LINES = 10.0
# Bytes that are looked at to tell a web page.
_HEAD = 512


def fetch(
    url: str,
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    md5: str | None = None,
    known_as: str | None = None,
    attempts: int = 6,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Download a file, or resume where an earlier call was cut; `path` appears only when the file is whole.

    What has arrived is kept in ``<path>.part``, even when this process dies. It is continued only where the server
    vouches that the file is still the same (``If-Range``), or where a checksum will tell.

    Args:
        url: http or https.
        path: the file to write; if it is there already, only its checksum is looked at.
        sha256: hexadecimal digest that the file must have.
        md5: hexadecimal digest that the file must have; for sources that publish nothing better.
        known_as: a name of the file that stays where its address changes from call to call.
        attempts: connections in a row that bring nothing new before the download is given up.
        timeout: seconds without a byte after which a connection counts as lost.
        pause: seconds before a second connection, doubled for each further one without new data.

    Returns:
        Path: of the file.

    Raises:
        DataError: the server refuses, sends a web page or never sends the whole file, a checksum differs (the file is
            then removed), or the disk is full.
    """
    path = Path(path)
    if urlsplit(url).scheme not in ("http", "https"):
        raise DataError(f"{url}: expected an address that starts with http:// or https://")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            part = _Part(url, path, checked=bool(sha256 or md5), known_as=known_as)
            _complete(part, attempts, timeout, pause)
            try:
                _verify(part.path, url, sha256, md5)
            except DataError:
                part.restart()
                raise
            part.finish()
        else:
            _verify(path, url, sha256, md5)
    except OSError as error:
        raise DataError(f"{path}: {url} cannot be stored there: {error.strerror or error}") from error
    return path


class _Retry(Exception):  # noqa: N818 - what it asks for
    """This connection failed; another may not."""


class _Part:
    """The unfinished file and what is known of its origin.

    Attributes:
        checked: whether a checksum says in the end what it must be.
        path: ``<target>.part``; the validator lies beside it in ``<target>.part.json``.
        total: bytes of the whole file, if the server said so.
    """

    def __init__(self, url: str, target: Path, checked: bool, known_as: str | None = None) -> None:
        self.url, self.target, self.origin, self.checked = url, target, known_as or url, checked
        self.path = target.with_name(target.name + ".part")
        self.note = target.with_name(target.name + ".part.json")
        self.total: int | None = None
        known = self._read_note()
        self.validator: str | None = known.get("validator")
        if known.get("url") != self.origin or not (self.validator or checked):
            self.restart()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def restart(self) -> None:
        """Forget everything that has arrived."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)
        self.validator, self.total = None, None

    def describe(self, validator: str | None, total: int | None) -> None:
        """Note which version of the file this is.

        Raises:
            _Retry: it is not the version that the first bytes are from.
        """
        if self.size and total is not None and self.total not in (None, total):
            self.restart()
            raise _Retry("the length of the file changed between two connections")
        self.validator, self.total = validator, total
        self.note.write_text(json.dumps({"url": self.origin, "validator": validator}), encoding="utf-8")

    def finish(self) -> None:
        storage.move(self.path, self.target)
        self.note.unlink(missing_ok=True)

    def _read_note(self) -> dict[str, Any]:
        try:
            known = from_json(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return known if isinstance(known, dict) else {}


def _complete(part: _Part, attempts: int, timeout: float, pause: float) -> None:
    """Connect again and again until the file is whole."""
    log.info("downloading %s%s", part.url, f", resuming at {part.size / 1e6:.1f} MB" if part.size else "")
    vain, farthest, reason = 0, part.size, ""
    with _Meter(part.size) as meter:
        while vain < attempts:
            if reason:
                log.info("  %s; connecting again at %.1f MB", reason, part.size / 1e6)
                time.sleep(min(pause * 2.0 ** max(vain - 1, 0), 60.0))
            try:
                _connect(part, timeout, meter)
                return
            except _Retry as problem:
                reason = str(problem)
            except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
                cause = error.reason if isinstance(error, urllib.error.URLError) else error
                reason = str(cause) or str(error) or type(error).__name__
            vain = 0 if part.size > farthest else vain + 1
            farthest = max(farthest, part.size)
    raise DataError(
        f"{part.url}: given up after {attempts} connections that brought nothing new: {reason}. "
        f"{part.size} bytes are kept in {part.path}; the same command resumes from there"
    )


def _connect(part: _Part, timeout: float, meter: "_Meter") -> None:
    """One connection; returns when the file is whole."""
    offset = part.size
    headers = {"Accept-Encoding": "identity", "User-Agent": "hw-speech"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if part.validator:
            headers["If-Range"] = part.validator
    try:
        response = urllib.request.urlopen(urllib.request.Request(part.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range", "").strip() == f"bytes */{offset}":
                return
            _refused(part, error)
    with response:
        if not part.checked and part.url.startswith("https:") and not response.geturl().startswith("https:"):
            raise DataError(
                f"{part.url}: leads to {response.geturl()}, which can be changed on its way; give a checksum"
            )
        _refuse_web_page(part.url, response.headers.get_content_type(), b"")
        total = _announced(response, offset, part)
        offset = part.size
        validator = _validator(response.headers)
        if offset and _contradict(validator, part.validator):
            part.restart()
            raise _Retry("the server sends a part of another version of the file")
        part.describe(validator or part.validator, total)
        _refuse_full_disk(part, total, offset)
        meter.start(offset, total)
        _receive(part, response, meter)
    if total is not None and part.size != total:
        raise _Retry(f"the connection ended at {part.size} of {total} bytes")


def _receive(part: _Part, response: Any, meter: "_Meter") -> None:
    """Append what comes to the file."""
    with open(part.path, "ab") as file:
        while block := response.read(_BLOCK):
            if file.tell() == 0:
                _refuse_web_page(part.url, "", block[:_HEAD])
            file.write(block)
            file.flush()  # what has arrived counts, whatever happens next
            meter.advance(len(block))


def _announced(response: Any, offset: int, part: _Part) -> int | None:
    """Bytes of the whole file according to the response; an answer from the first byte on starts the file again."""
    length = response.headers.get("Content-Length", "")
    if response.status == 206:
        match = re.fullmatch(
            r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if match is None or int(match[1]) != offset:
            part.restart()
            raise _Retry("the server sends another range than it was asked for")
        return None if match[2] == "*" else _length(match[2], part.url)
    if offset:  # the server ignores ranges, or has another version
        part.restart()
    return _length(length, part.url) if length else None


def _length(text: str, url: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise DataError(f"{url}: the server announces a length of {ascii(text)[:40]}, which is not a number of bytes")
    return int(text)


def _validator(headers: Any) -> str | None:
    """What ``If-Range`` may hold: a strong entity tag or a date."""
    tag: str | None = headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    date: str | None = headers.get("Last-Modified")
    return date


def _contradict(one: str | None, other: str | None) -> bool:
    """Whether two validators are of different versions; a tag and a date say nothing of each other."""
    comparable = one and other and one.startswith('"') == other.startswith('"')
    return bool(comparable) and one != other


def _refused(part: _Part, error: urllib.error.HTTPError) -> NoReturn:
    if error.code == 416:
        part.restart()
        raise _Retry("the server has fewer bytes than are here already")
    if error.code in _RETRIED or error.code >= 500:
        raise _Retry(f"the server answers {error.code} {error.reason}")
    raise DataError(f"{part.url}: the server answers {error.code} {error.reason}; correct the address")


def _refuse_web_page(url: str, kind: str, head: bytes) -> None:
    if kind == "text/html" or head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise DataError(f"{url}: the server sends a web page instead of the file; correct the address, or log in there")


def _refuse_full_disk(part: _Part, total: int | None, offset: int) -> None:
    free = shutil.disk_usage(part.path.parent).free
    if total is not None and total - offset > free:
        raise DataError(
            f"{part.path}: {(total - offset) / 1e9:.2f} GB are to come and {free / 1e9:.2f} GB are free there"
        )


def _verify(path: Path, url: str, sha256: str | None, md5: str | None) -> None:
    for name, wanted in (("sha256", sha256), ("md5", md5)):
        if wanted is None:
            continue
        found = _digest(path, name)
        if found != wanted.lower():
            path.unlink()
            raise DataError(
                f"{path}: removed, because its {name} is {found} where {url} should have {wanted}; download it again"
            )


def sha256_of(path: Path) -> str:
    """The digest of a file, hexadecimal."""
    return _digest(path, "sha256")


def _digest(path: Path, name: str) -> str:
    hasher = hashlib.new(name, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


class _Meter:
    """A bar on a terminal, and a line every few seconds elsewhere."""

    def __init__(self, done: int) -> None:
        self.done, self.total = done, 0
        self._bar: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> "_Meter":
        return self

    def __exit__(self, *unused: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def start(self, done: int, total: int | None) -> None:
        """A connection is made: so many bytes are here, of so many."""
        self.done, self.total = done, total or 0
        if self._bar is None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(unit="B", unit_scale=True, dynamic_ncols=True)
        if self._bar is not None:
            self._bar.total, self._bar.n = total, done
            self._bar.refresh()

    def advance(self, n_bytes: int) -> None:
        self.done += n_bytes
        if self._bar is not None:
            self._bar.update(n_bytes)
        elif time.monotonic() - self._said > _SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            part = f" of {self.total / 1e6:.0f} MB ({self.done / self.total:.0%})" if self.total else ""
            log.info("  %.0f MB%s", self.done / 1e6, part)

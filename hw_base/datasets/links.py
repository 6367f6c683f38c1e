"""A data set that is given by one link: a direct one, of Google Drive, or of Yandex Disk; an archive or a folder."""

import hashlib
import html.parser
import http.client
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

from hw_base.audio.io import EXTENSIONS
from hw_base.errors import DataError
from hw_base.files import archives, download
from hw_base.texts.files import from_json

log = logging.getLogger(__name__)

_TIMEOUT = 30.0
# A page with a question, or a list of files, is no longer.
_LONGEST_PAGE = 8 << 20
_MOST_FILES = 20_000
_DRIVE = ("drive.google.com", "docs.google.com", "drive.usercontent.google.com")
_YANDEX = re.compile(r"(disk\.yandex\.[a-z.]+|yadi\.sk)")
# How the names of archives end; a checkpoint is a zip file too, and stays what it is.
_ARCHIVES = tuple(suffix for _, suffixes, _ in shutil.get_unpack_formats() for suffix in suffixes)
# What the archiver of a Mac adds.
_IGNORED = "__MACOSX"


@dataclass(frozen=True)
class Sites:
    """Where the two services answer.

    Attributes:
        drive: lists the files of a folder of Google Drive.
        drive_files: sends the files themselves.
        yandex: the REST API of Yandex Disk.
    """

    drive: str = "https://drive.google.com"
    drive_files: str = "https://drive.usercontent.google.com"
    yandex: str = "https://cloud-api.yandex.net"


@dataclass(frozen=True)
class _File:
    """What is to be downloaded: its address now, its place, a digest, and a name for it that does not change."""

    url: str
    path: str = ""
    sha256: str | None = None
    known_as: str | None = None


def fetch_dataset(link: str, folder: str | os.PathLike[str], sites: Sites | None = None) -> Path:
    """`fetch_files`, and then `dataset_root`: the folder with the recordings that a link leads to.

    Raises:
        DataError: as these say.
    """
    return dataset_root(fetch_files(link, folder, sites))


def fetch_files(link: str, folder: str | os.PathLike[str], sites: Sites | None = None) -> Path:
    """Get what a link leads to into a new folder, which appears only when everything is in it.

    Links are those that one copies in the browser; what they show must be open to everyone who has the link. A folder
    of Google Drive is fetched file by file, one of Yandex Disk as the archive that it makes of it. What has arrived is
    kept when a download is cut, and continued by the next call. What is alone in a folder of Google Drive and has the
    name of an archive is unpacked. A folder of this machine is left where it is.

    Args:
        link: ``https://...``, or the path of an archive or a folder on this machine.
        folder: where it goes; if it is there already, nothing is fetched.
        sites: where the services answer.

    Returns:
        Path: `folder`, or that of this machine.

    Raises:
        DataError: the link leads to nothing, to no archive or folder, or needs a login; a download fails.
    """
    folder, sites = Path(folder), sites or Sites()
    if urlsplit(link).scheme not in ("http", "https"):
        return _local(Path(link).expanduser(), folder)
    if folder.exists():
        log.info("%s is there already: nothing is downloaded", folder)
        return folder
    files = _files(link, sites)
    digest = hashlib.blake2b(link.encode(), digest_size=4).hexdigest()
    scratch = folder.with_name(f".{folder.name}.{digest}.arriving")
    for file in files:
        target = scratch / file.path if file.path else scratch / "archive"
        download.fetch(file.url, target, sha256=file.sha256, known_as=file.known_as)
    if not files[0].path or (len(files) == 1 and target.name.lower().endswith(_ARCHIVES)):
        try:
            archives.extract(target, folder)
        except DataError as error:
            raise DataError(f"{link}: {str(error).removeprefix(f'{target}: ')}") from error
        finally:
            shutil.rmtree(scratch)
    else:
        os.replace(scratch, folder)
    return folder


def dataset_root(folder: Path) -> Path:
    """The folder of a data set within what was unpacked: archives often have one more folder around it.

    Returns:
        Path: the first that holds ``audio``, or else the one that holds all recordings.

    Raises:
        DataError: there is no audio in it.
    """
    level = [folder]
    while level:
        for path in level:
            if (path / "audio").is_dir():
                return path
        level = [inner for path in level for inner in sorted(path.iterdir()) if inner.is_dir() and _counts(inner)]
    audio = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in EXTENSIONS and _IGNORED not in p.parts]
    if not audio:
        raise DataError(f"{folder}: has no folder 'audio' and no recordings ({', '.join(EXTENSIONS)})")
    return Path(os.path.commonpath([path.parent for path in audio]))


def _counts(folder: Path) -> bool:
    return not folder.name.startswith(".") and folder.name != _IGNORED


def _local(path: Path, folder: Path) -> Path:
    if path.is_dir():
        return path
    if not path.is_file():
        raise DataError(f"{path}: neither an address that starts with https:// nor a file or folder of this machine")
    return folder if folder.exists() else archives.extract(path, folder)


def _files(link: str, sites: Sites) -> list[_File]:
    """What a link stands for."""
    host = urlsplit(link).hostname or ""
    if host in _DRIVE:
        return _drive(link, sites)
    if _YANDEX.fullmatch(host):
        return [_yandex(link, sites)]
    return [_File(link)]


def _drive(link: str, sites: Sites) -> list[_File]:
    parts = urlsplit(link)
    inside = re.search(r"/folders/([\w-]+)", parts.path)
    if inside is not None:
        files = _drive_folder(inside[1], "", sites)
        if not files:
            raise DataError(f"{link}: the folder is empty, or it is not shared with everyone who has the link")
        return files
    named = re.search(r"/d/([\w-]+)", parts.path)
    name = named[1] if named else parse_qs(parts.query).get("id", [""])[0]
    if not re.fullmatch(r"[\w-]+", name):
        raise DataError(f"{link}: expected a link of Google Drive such as https://drive.google.com/file/d/ID/view")
    return [_drive_file(name, "", sites)]


def _drive_file(name: str, path: str, sites: Sites) -> _File:
    """One file; large ones are only sent after a page that asks for a confirmation."""
    url = f"{sites.drive_files}/download?{urlencode({'id': name, 'export': 'download', 'confirm': 't'})}"
    page = _page(url)
    if page is not None:
        form = _Form()
        form.feed(page)
        if "id" not in form.fields:
            raise DataError(
                f"https://drive.google.com/file/d/{name}: Google Drive sends a page instead of the file; share it with "
                "everyone who has the link; if it is, its quota for today is used up: copy it, or try tomorrow"
            )
        url = f"{sites.drive_files}/download?{urlencode(form.fields)}"
    return _File(url, path, known_as=f"drive:{name}")


def _drive_folder(name: str, inside: str, sites: Sites) -> list[_File]:
    """All files of a folder and of the folders in it."""
    page = _page(f"{sites.drive}/embeddedfolderview?{urlencode({'id': name})}")
    entries = _Entries()
    entries.feed(page or "")
    files: list[_File] = []
    for href, title in entries.found:
        if title in ("", ".", "..") or "/" in title or "\\" in title:
            raise DataError(f"Google Drive, folder {name}: refused, a file in it is called {title!r}")
        place, match = f"{inside}{title}", re.search(r"/(folders|d)/([\w-]+)", urlsplit(href).path)
        if match is None:
            continue
        if match[1] == "folders":
            files += _drive_folder(match[2], f"{place}/", sites)
        else:
            files.append(_drive_file(match[2], place, sites))
        if len(files) > _MOST_FILES:
            raise DataError(f"Google Drive, folder {name}: has more than {_MOST_FILES} files; share an archive instead")
    return files


def _yandex(link: str, sites: Sites) -> _File:
    """A file, or the archive of a folder; a link may lead to a folder within the shared one."""
    parts = urlsplit(link)
    match = re.fullmatch(r"/(d|i|mail)/([^/]+)(/.*)?", parts.path)
    if match is None:
        raise DataError(f"{link}: expected a link of Yandex Disk such as https://disk.yandex.ru/d/KEY")
    key = {"public_key": f"https://{parts.hostname}/{match[1]}/{match[2]}"}
    key |= {"path": unquote(match[3])} if match[3] and match[3] != "/" else {}
    about = _json(f"{sites.yandex}/v1/disk/public/resources?{urlencode({**key, 'limit': 0}, quote_via=quote)}", link)
    answer = _json(f"{sites.yandex}/v1/disk/public/resources/download?{urlencode(key, quote_via=quote)}", link)
    href, digest = answer.get("href"), about.get("sha256")
    if not isinstance(href, str):
        raise DataError(f"{link}: Yandex Disk names no address to download it from; its owner may have forbidden it")
    return _File(href, "", digest if isinstance(digest, str) else None, f"yandex:{key}")


def _json(url: str, link: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            content = from_json(response.read(_LONGEST_PAGE))
    except urllib.error.HTTPError as error:
        with error:
            reason = "there is no such public file or folder" if error.code == 404 else f"{error.code} {error.reason}"
        raise DataError(f"{link}: Yandex Disk answers: {reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{link}: Yandex Disk cannot be asked for it: {error}") from None
    return content if isinstance(content, dict) else {}


def _page(url: str) -> str | None:
    """The text of a web page; None where the address leads to a file."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            if response.headers.get_content_type() != "text/html":
                return None
            return str(response.read(_LONGEST_PAGE).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        with error:
            reason = "there is no such file, or it is not shared" if error.code in (403, 404) else str(error.reason)
        raise DataError(f"{url}: the server answers {error.code}: {reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise DataError(f"{url}: cannot be reached: {str(error).strip() or type(error).__name__}") from None


class _Form(html.parser.HTMLParser):
    """The hidden fields of a page's form for downloading, with those of its address."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        of = {name: value or "" for name, value in attrs}
        if tag == "form" and "download" in of.get("action", ""):
            self.fields |= dict(parse_qsl(urlsplit(of["action"]).query))
        elif tag == "input" and of.get("type") == "hidden" and of.get("name"):
            self.fields[of["name"]] = of.get("value", "")


class _Entries(html.parser.HTMLParser):
    """The files and folders in the list of a folder: address and name of each."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._href, self._in_title = "", False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Called for each tag."""
        of = {name: value or "" for name, value in attrs}
        if tag == "a" and of.get("href"):
            self._href = of["href"]
        self._in_title = "flip-entry-title" in of.get("class", "").split()

    def handle_data(self, data: str) -> None:
        """Called for each text."""
        if self._in_title and self._href:
            self.found.append((self._href, data.strip()))
            self._href, self._in_title = "", False

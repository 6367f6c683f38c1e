"""Where a checkpoint comes from: a file, a published folder, an https address, or a file on the Hugging Face Hub.

Every program that opens a checkpoint asks `local` for the file. ``#sha256=HEX`` behind an address says what it must be.
"""

import hashlib
import logging
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hw_base.errors import ConfigError, DataError, MissingPackageError
from hw_base.files import published
from hw_base.files.download import fetch, sha256_of
from hw_base.storage import cache_folder, exclusive

log = logging.getLogger(__name__)

# `pathlib` makes one slash of two.
_ADDRESS = re.compile(r"(https?|hf):/{1,2}(?=[^/])(.*)", re.IGNORECASE | re.DOTALL)
_PIN = re.compile(r"sha256=([0-9a-fA-F]{64})")
_OWN_MACHINE = ("localhost", "127.0.0.1", "::1")
_HUB = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?/(?P<file>[^?]+)")


def is_address(source: str | Path) -> bool:
    """Whether a checkpoint has to be downloaded."""
    return _ADDRESS.fullmatch(str(source)) is not None


def local(source: str | Path) -> Path:
    """The file of a checkpoint on this machine.

    Args:
        source: a path; a folder that `hw_base.publish` wrote; ``https://HOST/FILE`` or ``hf://OWNER/REPO/FILE``
            (``OWNER/REPO@REVISION`` for another than the newest), each with ``#sha256=HEX`` behind it, if it is known.

    Returns:
        Path: the path itself; of a published folder its file of weights; or a file in the cache folder, where what is
        there already is not loaded again.

    Raises:
        ConfigError: the address or the checksum is malformed.
        DataError: it cannot be downloaded, or is another file than the checksum says.
        MissingPackageError: the Hub is asked for and ``huggingface_hub`` is not installed.
    """
    found = _ADDRESS.fullmatch(str(source))
    if found is None:
        path = Path(source)
        return path / published.NAME if (path / published.NAME).is_file() else path
    scheme, (rest, _, fragment) = found[1].lower(), found[2].partition("#")
    pin = _PIN.fullmatch(fragment)
    if fragment and pin is None:
        raise ConfigError(
            f"{source}: expected #sha256= and 64 hexadecimal digits behind the address, found #{fragment}"
        )
    address, sha256 = f"{scheme}://{rest}", pin[1].lower() if pin else None
    path = _from_hub(address, rest, sha256) if scheme == "hf" else _from_web(address, sha256)
    if sha256 is None:
        log.warning(
            "%s: its checksum is not pinned; to be sure of it, write %s#sha256=%s", address, address, sha256_of(path)
        )
    return path


def _from_web(address: str, sha256: str | None) -> Path:
    parts = urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in _OWN_MACHINE:
        raise ConfigError(f"{address}: what comes by http can be changed on its way; give an https address")
    # No leading dots: "..", and the name of the lock.
    name = re.sub(r"[^\w.-]", "_", unquote(parts.path).rpartition("/")[2]).lstrip(".") or "checkpoint.pth"
    # One folder for each address and checksum: another file under the address is another one here.
    digest = hashlib.sha256(f"{address}#{sha256}".encode()).hexdigest()[:16]
    path = cache_folder() / "checkpoints" / digest / name
    with exclusive(path.with_name(".lock"), f"{address}: another process is downloading it"):
        return fetch(address, path, sha256=sha256)


def _from_hub(address: str, rest: str, sha256: str | None) -> Path:
    match = _HUB.fullmatch(rest)
    if match is None:
        raise ConfigError(f"{address}: expected hf://OWNER/REPO/FILE, perhaps hf://OWNER/REPO@REVISION/FILE")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise MissingPackageError("hf://", "huggingface_hub") from error
    folder = cache_folder() / "checkpoints" / "hub"
    try:
        found = hf_hub_download(match["repo"], match["file"], revision=match["revision"], cache_dir=folder)
    except Exception as error:  # of the network, of the Hub, of the disk: each library beneath has its own
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DataError(f"{address}: cannot be downloaded: {reason}") from None
    path = Path(found)
    if sha256 is not None and (has := sha256_of(path)) != sha256:
        raise DataError(f"{address}: its sha256 is {has}, where {sha256} was expected; it is not used")
    return path

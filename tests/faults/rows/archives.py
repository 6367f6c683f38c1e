"""Archives and downloads from people and servers that are not to be trusted."""

import contextlib
import itertools
import random
import warnings

from hw_base.errors import DataError
from hw_base.files.archives import extract
from tests.faults.table import row
from tests.hostile_server import hostile_server
from tests.hw_base.files import test_archives as known
from tests.hw_base.files.test_download import DATA, MD5, SHA256, get

# Of these every bit is covered by a checksum of the format.
CHECKED = ("w:gz", "w:bz2", "w:xz", "zip")


def unpacked_or_refused(archive, folder, kind):
    """Unpack: what was packed, or one line and nothing written."""
    out = folder / "inside" / "out"
    out.parent.mkdir()
    try:
        extract(archive, out, max_bytes=10_000_000, max_members=1000)
    except DataError as error:
        assert len(str(error).splitlines()) == 1, str(error)
        assert list(out.parent.iterdir()) == []
    else:
        assert kind not in CHECKED or known.files(out) == known.TREE, "other content than was packed"
    assert sorted(path.name for path in folder.iterdir()) == ["archive", "inside"]


def honest(path, kind):
    known.zipped(path, known.TREE.items()) if kind == "zip" else known.tar(path, known.TREE.items(), kind)
    return path.read_bytes()


@row(
    12,
    "archives: `..`, links, devices, bombs, colliding names, and any bytes changed or cut",
    "unpacked as it was packed, or refused in one line; nothing outside, nothing half",
)
def hostile_archives(trials):
    warnings.filterwarnings("ignore", "Duplicate name")
    makers = (known.tar, known.zipped)
    hostile = [(make, [("fine", b"1"), (name, b"bad")]) for make in makers for name in known.NAMES]
    hostile += [(known.tar, [("fine", b"1"), ("link", kind), ("link/x", b"bad")]) for kind in known.KINDS]
    hostile += [(make, [(name, b"1") for name in pair]) for make in makers for pair in known.PAIRS]
    hostile += [(make, [(str(i), bytes(1_000_000)) for i in range(20)]) for make in makers]
    hostile += [(make, [(str(i), b"") for i in range(1001)]) for make in makers]
    for make, members in hostile[:: 1 if trials.whole else 6]:
        with trials.trial(f"{make.__name__} with {members[-1][0]!r}") as folder:
            make(folder / "archive", members)
            out = folder / "inside"
            out.mkdir()
            with contextlib.suppress(DataError):
                extract(folder / "archive", out / "out", max_bytes=10_000_000, max_members=1000)
                raise AssertionError("it was unpacked")
            assert list(out.iterdir()) == []
            assert sorted(path.name for path in folder.iterdir()) == ["archive", "inside"]
    for kind in ("w", *CHECKED):
        content = honest(trials.folder / "honest", kind)
        for seed in range(trials.size(8, 100)):
            chosen = random.Random(seed)
            damaged = bytearray(content)
            if seed % 4 == 0:
                del damaged[chosen.randrange(len(damaged)) :]
            for _ in range(chosen.randrange(1, 4) if seed % 4 else 0):
                damaged[chosen.randrange(len(damaged))] ^= 1 << chosen.randrange(8)
            with trials.trial(f"{kind} damaged with seed {seed}") as folder:
                (folder / "archive").write_bytes(damaged)
                unpacked_or_refused(folder / "archive", folder, kind)


FAULTS = {
    "cut": (40_000, 150_001),
    "etag": ('"v1"',),
    "no_ranges": (True,),
    "no_if_range": (True,),
    "no_length": (True,),
    "lie": (-5_000, 5_000),
    "stubborn": (5_000,),
    "wrong_range": (10,),
    "html": ("text/html",),
    "status": (404, 503),
    "length": ("-5", "x"),
}


def all_faults():
    """Every single fault and every pair of them."""
    one = [{name: value} for name, values in FAULTS.items() for value in values]
    pairs = [{**a, **b} for a, b in itertools.combinations(one, 2) if a.keys() != b.keys()]
    return one + pairs


@row(
    13,
    "downloads: cut, lying, redirected to a login page, wrong ranges, odd lengths; alone and in pairs",
    "the file by its checksum, or one line and no file under its name; a sound server then completes it",
)
def hostile_downloads(trials):
    with hostile_server(DATA) as server:
        faults = all_faults()
        for one in faults if trials.whole else faults[::12]:
            for check in ({"sha256": SHA256}, {"md5": MD5}):
                with trials.trial(f"{one}") as folder:
                    server.faults, server.requests = one, []
                    path = folder / "file"
                    try:
                        assert get(server, path, **check).read_bytes() == DATA
                    except DataError as error:
                        assert len(str(error).splitlines()) == 1
                        assert not path.exists()
                    server.faults = {}
                    try:
                        got = get(server, path, **check)
                    except DataError as error:  # what was kept of the wrong one is found by its checksum, and removed
                        assert "removed, because its" in str(error)
                        got = get(server, path, **check)
                    assert got.read_bytes() == DATA
                    assert [left.name for left in folder.iterdir()] == ["file"]

"""Honest archives are unpacked; hostile ones write nothing anywhere."""

import gzip
import io
import stat
import tarfile
import tracemalloc
import zipfile

import pytest

from hw_base.errors import DataError
from hw_base.files.archives import extract

TREE = {"top/README": b"read me", "top/part/a/1.flac": b"\x00\x01" * 5000, "top/part/b/2.txt": "текст".encode()}


def tar(path, members, mode="w:gz"):
    """An archive of (name, content or a member's type and link)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            else:
                member.type, member.linkname = content
                archive.addfile(member)
    return path


def zipped(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            if isinstance(content, bytes):
                archive.writestr(name, content)
            else:
                link = zipfile.ZipInfo(name)
                link.external_attr = (stat.S_IFLNK | 0o777) << 16
                archive.writestr(link, content[1])
    return path


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_honest_archives(tmp_path, kind):
    path = tmp_path / "archive"
    zipped(path, TREE.items()) if kind == "zip" else tar(path, TREE.items(), kind)
    assert files(extract(path, tmp_path / "out")) == TREE
    part = extract(path, tmp_path / "deep" / "part", inside="top/part")
    assert files(part) == {"a/1.flac": TREE["top/part/a/1.flac"], "b/2.txt": TREE["top/part/b/2.txt"]}
    with pytest.raises(DataError, match="exists already"):
        extract(path, tmp_path / "out")
    with pytest.raises(DataError, match="holds no files in top/none"):
        extract(path, tmp_path / "none", inside="top/none")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive", "deep", "out"]


def test_folders_and_modes(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("./d", tarfile.DIRTYPE), ("d", tarfile.DIRTYPE), ("d/empty", tarfile.DIRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0
            archive.addfile(member)
        member = tarfile.TarInfo("d/x")
        member.mode, member.size = 0o6777, 3
        archive.addfile(member, io.BytesIO(b"abc"))
    out = extract(tmp_path / "a.tar", tmp_path / "out")
    assert (out / "d" / "empty").is_dir()
    assert not (out / "d" / "x").stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_without_members_is_one_line(tmp_path, mode):
    with pytest.raises(DataError, match=r"empty\.tar: holds no files$"):
        extract(tar(tmp_path / "empty.tar", [], mode), tmp_path / "out")


def test_what_a_killed_process_left_is_replaced(tmp_path):
    left = tmp_path / ".out.unpacking"
    left.mkdir()
    (left / "half").write_text("x")
    assert files(extract(tar(tmp_path / "a", TREE.items()), tmp_path / "out")) == TREE
    assert not left.exists()


NAMES = ["../x", "a/../../x", "/x", "//x", "a/..", "..", "C:x", "a\\..\\x", "a\x01b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("make", [tar, zipped])
def test_no_member_escapes(tmp_path, make, name):
    work = tmp_path / "one" / "two"
    work.mkdir(parents=True)
    archive = make(work / "a", [("fine", b"1"), (name, b"bad")])
    with pytest.raises(DataError, match="would lie outside of the folder"):
        extract(archive, work / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["one", "two", "a"]


KINDS = [
    (tarfile.SYMTYPE, "/etc"),
    (tarfile.SYMTYPE, "fine"),
    (tarfile.LNKTYPE, "fine"),
    (tarfile.FIFOTYPE, ""),
    (tarfile.CHRTYPE, ""),
    (tarfile.BLKTYPE, ""),
]


@pytest.mark.parametrize("kind", KINDS)
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = tar(tmp_path / "a", [("fine", b"1"), ("link", kind), ("link/x", b"bad")])
    with pytest.raises(DataError, match="'link' is a link or a device"):
        extract(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_links_in_zip_are_refused(tmp_path):
    archive = zipped(tmp_path / "a", [("link", (None, "/etc")), ("link/x", b"bad")])
    with pytest.raises(DataError, match="'link' is a link or a device"):
        extract(archive, tmp_path / "out")


PAIRS = [("a", "a"), ("a/B", "a/b"), ("A/x", "a/y"), ("a", "a/b"), ("é", "e\u0301"), ("straße", "STRASSE")]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("make", [tar, zipped])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_one_on_some_file_systems(tmp_path, make, pair):
    archive = make(tmp_path / "a", [(name, b"1") for name in pair])
    with pytest.raises(DataError, match="have one name"):
        extract(archive, tmp_path / "out")


@pytest.mark.parametrize("make", [tar, zipped])
def test_quota(tmp_path, make):
    bomb = make(tmp_path / "bomb", [(f"{i}", bytes(1_000_000)) for i in range(5)])
    assert bomb.stat().st_size < 30_000
    with pytest.raises(DataError, match="unpacks to more than 3 MB"):
        extract(bomb, tmp_path / "out", max_bytes=3_000_000)
    many = make(tmp_path / "many", [(f"{i}", b"") for i in range(300)])
    with pytest.raises(DataError, match="more than 299 members"):
        extract(many, tmp_path / "out", max_members=299)
    extract(many, tmp_path / "out", max_members=300)
    assert {p.name for p in tmp_path.iterdir()} == {"bomb", "many", "out"}


def test_a_zip_that_lies_about_its_sizes(tmp_path):
    path = zipped(tmp_path / "a", [("x", bytes(3_000_000))])
    content = path.read_bytes()
    path.write_bytes(content.replace((3_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DataError, match=r"damaged, or not an archive|unpacks to more"):
        extract(path, tmp_path / "out", max_bytes=100_000)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory(tmp_path, kind):
    member = tarfile.TarInfo("header")
    member.type, member.size = kind, 200_000_000
    with gzip.open(tmp_path / "a", "wb", compresslevel=1) as file:
        file.write(member.tobuf(tarfile.GNU_FORMAT))
        for _ in range(200):
            file.write(bytes(1_000_000))
    tracemalloc.start()
    with pytest.raises(DataError, match="refused, a header in it has 200"):
        extract(tmp_path / "a", tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kind", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_damaged_archives(tmp_path, kind):
    path, content = tmp_path / "a", None
    zipped(path, TREE.items()) if kind == "zip" else tar(path, TREE.items(), kind)
    content = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", b"\x1f\x8b", b"<html>" * 200, content[: len(content) // 2], content[:-9][:700]):
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            extract(path, tmp_path / "out")
    if kind in ("w:gz", "w:xz", "zip"):
        name = b"top/part/a/1.flac"
        flipped = bytearray(content)
        flipped[content.index(name) + len(name) + 5 if kind == "zip" else len(content) // 2] ^= 0x10
        path.write_bytes(flipped)
        with pytest.raises(DataError):
            extract(path, tmp_path / "out")
    with pytest.raises(DataError, match="No such file"):
        extract(tmp_path / "none", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_damaged_header_in_the_middle_is_not_the_end(tmp_path):
    path = tar(tmp_path / "a", [("1", b"x" * 600), ("2", b"y" * 600)], "w")
    content = bytearray(path.read_bytes())
    content[1536 + 150] ^= 1  # the second header's checksum
    path.write_bytes(content)
    with pytest.raises(DataError, match="data behind its last member"):
        extract(path, tmp_path / "out")


def test_an_encrypted_member(tmp_path):
    path = zipped(tmp_path / "a", [("x", b"abc")])
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="'x' is encrypted"):
        extract(path, tmp_path / "out")


def refused(path, tmp_path):
    with pytest.raises(DataError) as caught:
        extract(path, tmp_path / "out")
    assert len(str(caught.value).splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    return str(caught.value)


def test_a_sparse_member_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("hole")
        member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 40)}
        member.size = 512
        archive.addfile(member, io.BytesIO(b"1\n0\n5\n".ljust(512, b"\0")))
    assert "its member 'hole' is a sparse file" in refused(tmp_path / "a.tar", tmp_path)


@pytest.mark.parametrize("header", [{"GNU.sparse.size": "many"}, {"GNU.sparse.map": "1,x"}])
def test_a_malformed_extended_header_is_one_line(tmp_path, header):
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a")
        member.pax_headers = {"GNU.sparse.size": "5", **header} if "GNU.sparse.map" in header else header
        archive.addfile(member)
    assert str(tmp_path / "a.tar") in refused(tmp_path / "a.tar", tmp_path)


def test_headers_nested_without_end_are_one_line(tmp_path):
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 2
    (tmp_path / "a.tar").write_bytes((long.tobuf(tarfile.GNU_FORMAT) + b"a\0".ljust(512, b"\0")) * 5000)
    assert str(tmp_path / "a.tar") in refused(tmp_path / "a.tar", tmp_path)


def test_a_zip_of_a_later_version_is_one_line(tmp_path):
    path = zipped(tmp_path / "a.zip", [("a", b"x")])
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 6 : central + 8] = (99).to_bytes(2, "little")
    path.write_bytes(content)
    assert "zip file version 9.9" in refused(path, tmp_path)


@pytest.mark.parametrize("method", [97, 9, 12345])
def test_a_zip_of_an_unknown_compression_is_one_line(tmp_path, method):
    path = zipped(tmp_path / "a.zip", [("a", b"x" * 99)])
    content = bytearray(path.read_bytes())
    for magic, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = content.index(magic) + place
        content[start : start + 2] = method.to_bytes(2, "little")
    path.write_bytes(content)
    assert str(path) in refused(path, tmp_path)

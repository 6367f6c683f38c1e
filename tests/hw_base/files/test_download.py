"""Downloads from a local server that does everything wrong that servers do."""

import hashlib
import random
import threading

import pytest

from hw_base.errors import DataError
from hw_base.files.download import fetch
from hw_base.storage import exclusive
from tests.hostile_server import hostile_server

DATA = random.Random(0).randbytes(200_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with hostile_server(DATA) as made:
        yield made


def get(server, path, attempts=3, **checks):
    return fetch(server.url, path, attempts=attempts, timeout=5.0, pause=0.0, **checks)


@pytest.mark.parametrize("check", [{}, {"sha256": SHA256}, {"md5": MD5.upper()}, {"sha256": SHA256, "md5": MD5}])
def test_a_good_server(server, tmp_path, check):
    path = get(server, tmp_path / "new" / "file", **check)
    assert path.read_bytes() == DATA
    assert [p.name for p in path.parent.iterdir()] == ["file"]
    get(server, path, **check)
    assert len(server.requests) == 1


@pytest.mark.parametrize("cut", [5_000, 33_333, 150_000, 199_999])
def test_a_server_that_cuts(server, tmp_path, cut):
    server.faults = {"cut": cut, "etag": '"v1"'}
    assert get(server, tmp_path / "file", sha256=SHA256).read_bytes() == DATA
    assert len(server.requests) == -(-len(DATA) // cut)
    assert [r.get("Range") for r in server.requests[:3]] == [None, f"bytes={cut}-", f"bytes={2 * cut}-"][
        : len(server.requests)
    ]
    assert all(request["If-Range"] == '"v1"' for request in server.requests[1:])


def test_what_arrived_is_used_by_the_next_process(server, tmp_path):
    (tmp_path / "file.part").write_bytes(DATA[:70_000])
    (tmp_path / "file.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"v1\\""}}')
    server.faults = {"etag": '"v1"'}
    assert get(server, tmp_path / "file").read_bytes() == DATA
    assert [request["Range"] for request in server.requests] == ["bytes=70000-"]


@pytest.mark.parametrize("note", ["{}", "[", '{"url": "http://elsewhere/", "validator": "\\"v1\\""}'])
def test_bytes_of_unknown_origin_are_not_used(server, tmp_path, note):
    server.faults = {"etag": '"v1"'}
    (tmp_path / "file.part").write_bytes(b"x" * 70_000)
    (tmp_path / "file.part.json").write_text(note)
    assert get(server, tmp_path / "file").read_bytes() == DATA
    assert server.requests[0].get("Range") is None


def test_another_version_starts_anew(server, tmp_path):
    server.faults = {"etag": '"v2"'}
    (tmp_path / "file.part").write_bytes(b"x" * 70_000)
    (tmp_path / "file.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"v1\\""}}')
    assert get(server, tmp_path / "file").read_bytes() == DATA
    assert server.requests[0]["If-Range"] == '"v1"'


def test_a_server_without_ranges_that_cuts_is_given_up(server, tmp_path):
    server.faults = {"cut": 50_000, "no_ranges": True}
    with pytest.raises(DataError, match=r"given up after 3 connections .* ended at 50000 of 200000 bytes") as caught:
        get(server, tmp_path / "file", sha256=SHA256)
    assert "50000 bytes are kept" in str(caught.value)
    assert not (tmp_path / "file").exists()
    server.faults = {"no_ranges": True}
    assert get(server, tmp_path / "file", sha256=SHA256).read_bytes() == DATA


def test_a_server_that_promises_more_than_it_has(server, tmp_path):
    server.faults = {"lie": 5_000, "stubborn": 5_000}
    with pytest.raises(DataError, match="given up after 3 connections"):
        get(server, tmp_path / "file", sha256=SHA256)
    assert not (tmp_path / "file").exists()
    server.faults = {"lie": 5_000}  # asked for the rest, it admits that there is none
    assert get(server, tmp_path / "file", sha256=SHA256).read_bytes() == DATA


@pytest.mark.parametrize("faults", [{"lie": -5_000}, {"no_length": True, "cut": 150_000}])
def test_a_file_that_is_short_without_a_sign_fails_its_checksum_and_is_removed(server, tmp_path, faults):
    server.faults = faults
    for check in ({"sha256": SHA256}, {"md5": MD5}):
        with pytest.raises(DataError, match=r"removed, because its (md5|sha256) is"):
            get(server, tmp_path / "file", **check)
        assert list(tmp_path.iterdir()) == []


def test_a_wrong_file_that_is_there_already_is_removed(server, tmp_path):
    (tmp_path / "file").write_bytes(DATA[::-1])
    with pytest.raises(DataError, match="removed, because its sha256 is"):
        get(server, tmp_path / "file", sha256=SHA256)
    assert get(server, tmp_path / "file", sha256=SHA256).read_bytes() == DATA


def test_a_wrong_range_is_not_appended(server, tmp_path):
    server.faults = {"cut": 150_000, "wrong_range": 10}
    with pytest.raises(DataError, match="another range than it was asked for"):
        get(server, tmp_path / "file", sha256=SHA256)


def test_a_part_of_another_version_is_not_joined_on(server, tmp_path):
    """A server that overlooks ``If-Range``."""
    (tmp_path / "file.part").write_bytes(b"x" * 70_000)
    (tmp_path / "file.part.json").write_text(f'{{"url": "{server.url}", "validator": "\\"v1\\""}}')
    server.faults = {"etag": '"v2"', "no_if_range": True}
    assert get(server, tmp_path / "file").read_bytes() == DATA
    assert [request.get("Range") for request in server.requests] == ["bytes=70000-", None]


@pytest.mark.parametrize("length", ["-5", "1e3", "\xb2", "5, 5", "9" * 5000])
def test_an_odd_length_is_one_line(server, tmp_path, length):
    server.faults = {"length": length}
    with pytest.raises(DataError, match=r"announces a length of .*, which is not a number of bytes") as caught:
        get(server, tmp_path / "file")
    assert len(str(caught.value).splitlines()) == 1


def test_more_bytes_than_the_server_has_are_not_kept(server, tmp_path):
    (tmp_path / "file.part").write_bytes(DATA + b"tail")
    (tmp_path / "file.part.json").write_text(f'{{"url": "{server.url}"}}')
    assert get(server, tmp_path / "file", sha256=SHA256).read_bytes() == DATA
    (tmp_path / "again.part").write_bytes(DATA)
    (tmp_path / "again.part.json").write_text(f'{{"url": "{server.url}"}}')
    assert get(server, tmp_path / "again", sha256=SHA256).read_bytes() == DATA


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "application/gzip"])
def test_a_web_page_is_refused_at_once(server, tmp_path, kind):
    server.faults = {"html": kind}
    with pytest.raises(DataError, match="sends a web page instead of the file"):
        get(server, tmp_path / "file")
    assert not (tmp_path / "file").exists()
    assert len(server.requests) == 1


def test_refusals(server, tmp_path):
    for status, requests in ((404, 1), (403, 1), (500, 3), (503, 3), (429, 3)):
        server.faults, server.requests = {"status": status}, []
        with pytest.raises(DataError, match=f"the server answers {status}"):
            get(server, tmp_path / "file")
        assert len(server.requests) == requests
    server.faults, server.requests = {"status": 503, "times": 2}, []
    assert get(server, tmp_path / "file").read_bytes() == DATA


def test_no_server_and_no_http(server, tmp_path):
    with pytest.raises(DataError, match="refused"):
        fetch("http://127.0.0.1:9/file", tmp_path / "file", attempts=2, pause=0.0)
    for url in ("file:///etc/hostname", "ftp://host/file", "/etc/hostname"):
        with pytest.raises(DataError, match="expected an address that starts with http"):
            fetch(url, tmp_path / "file")
    (tmp_path / "plain").write_text("")
    with pytest.raises(DataError, match="cannot be stored there"):
        get(server, tmp_path / "plain" / "file")


def test_one_process_at_a_time(tmp_path):
    order = []

    def work():
        with exclusive(tmp_path / ".lock"):
            order.append("second")

    with exclusive(tmp_path / ".lock"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]

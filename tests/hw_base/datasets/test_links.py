"""Data sets by link, from a local server that answers as Google Drive and Yandex Disk do."""

import contextlib
import hashlib
import http.server
import io
import threading
import zipfile
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import soundfile

from hw_base import fetch
from hw_base.datasets.links import Sites, dataset_root, fetch_dataset, fetch_files
from hw_base.errors import DataError
from tests.hostile_server import hostile_server

WARNING = """<!DOCTYPE html><title>Google Drive - Virus scan warning</title><form id="download-form"
 action="https://drive.usercontent.google.com/download" method="get"><input type="submit" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="7-7"></form>"""
ENTRY = """<div class="flip-entry" id="entry-{id}"><div class="flip-entry-info"><a href="https://drive.google.com/{kind}/{id}{end}">
<div class="flip-entry-visual"></div><div class="flip-entry-title">{name}</div></a></div></div>"""


def wav():
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1600, dtype=np.float32), 16000, format="WAV")
    return file.getvalue()


def archive(prefix="data/", names=("audio/a.wav", "audio/b.wav", "transcriptions/a.txt")):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name in names:
            made.writestr(prefix + name, wav() if name.endswith(".wav") else "hello")
        made.writestr("__MACOSX/audio/._a.wav", b"x")
    return file.getvalue()


ZIP = archive()
# Of the folder TOP: one archive's contents, file by file.
FOLDERS = {
    "TOP": [("folders", "AUDIO", "audio"), ("folders", "TEXTS", "transcriptions")],
    "AUDIO": [("file/d", "A", "a.wav"), ("file/d", "B", "b &amp; c.wav")],
    "TEXTS": [("file/d", "T", "a.txt")],
    "BAD": [("file/d", "A", "../a.wav")],
    "EMPTY": [],
    "ONE": [("folders", "INNER", "audio")],
    "INNER": [("file/d", "A", "a.wav")],
    "ZIP": [("file/d", "SMALL", "Data.ZIP")],
    "MODEL": [("file/d", "SMALL", "model.pth")],
}
FILES = {"BIG": ZIP, "SMALL": ZIP, "A": wav(), "B": wav(), "T": b"hello", "WAV": wav()}


class Services(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.server.asked.append((parts.path, query))
        if parts.path == "/download":
            self.drive(query)
        elif parts.path == "/embeddedfolderview":
            rows = FOLDERS.get(query["id"])
            page = "".join(
                ENTRY.format(kind=k, id=i, name=n, end="/view" if "file" in k else "") for k, i, n in rows or ()
            )
            self.reply(200 if rows is not None else 404, f"<html>{page}".encode(), "text/html; charset=utf-8")
        elif parts.path.startswith("/v1/disk/public/resources"):
            self.yandex(parts.path, query)
        elif parts.path == "/temporary":
            self.reply(200, ZIP)
        else:
            self.reply(404, b"no")

    def drive(self, query):
        if query["id"] == "GARBAGE":
            self.wfile.write(b"no answer of HTTP\r\n\r\n")
        elif query["id"] == "CLOSED":
            self.reply(200, b"<!DOCTYPE html><title>Sign in</title>", "text/html")
        elif query["id"] == "BIG" and "uuid" not in query:
            self.reply(200, WARNING.format(id="BIG").encode(), "text/html; charset=utf-8")
        elif query["id"] in FILES:
            self.reply(200, FILES[query["id"]])
        else:
            self.reply(404, b"<html>", "text/html")

    def yandex(self, path, query):
        if query["public_key"] != "https://disk.yandex.ru/d/KEY" or query.get("path") not in (None, "/my data"):
            self.reply(404, b'{"error": "DiskNotFoundError"}', "application/json")
        elif path.endswith("/download"):
            href = f"http://127.0.0.1:{self.server.server_port}/temporary"
            self.reply(200, f'{{"href": "{href}", "method": "GET"}}'.encode(), "application/json")
        else:
            digest = self.server.digest or hashlib.sha256(ZIP).hexdigest()
            self.reply(200, f'{{"type": "file", "sha256": "{digest}"}}'.encode(), "application/json")

    def reply(self, status, body, kind="application/octet-stream"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # whoever only looked at the headers
            self.wfile.write(body)

    def log_message(self, *arguments):
        """Nothing on the terminal."""


@pytest.fixture
def services(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Services)
    server.asked, server.digest = [], None
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    server.sites = Sites(*[f"http://127.0.0.1:{server.server_port}"] * 3)
    yield server
    server.shutdown()
    server.server_close()


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*") if "__MACOSX" not in path.parts)


@pytest.mark.parametrize(
    "link",
    [
        "https://drive.google.com/file/d/SMALL/view?usp=sharing",
        "https://drive.google.com/open?id=BIG",
        "https://drive.google.com/uc?export=download&id=BIG",
        "https://drive.usercontent.google.com/download?id=SMALL&export=download",
        "https://disk.yandex.ru/d/KEY",
        "https://disk.yandex.ru/d/KEY/my%20data",
    ],
)
def test_a_link_brings_the_folder_of_the_recordings(services, tmp_path, link):
    root = fetch_dataset(link, tmp_path / "mine", services.sites)
    assert root == tmp_path / "mine" / "data"
    assert files_in(root) == ["audio/a.wav", "audio/b.wav", "transcriptions/a.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    asked = len(services.asked)
    assert fetch_dataset(link, tmp_path / "mine", services.sites) == root
    assert len(services.asked) == asked  # nothing is fetched twice


def test_a_page_that_asks_is_answered_with_all_of_its_fields(services, tmp_path):
    fetch_dataset("https://drive.google.com/file/d/BIG/view", tmp_path / "mine", services.sites)
    assert services.asked[-1] == ("/download", {"id": "BIG", "export": "download", "confirm": "t", "uuid": "7-7"})


def test_a_folder_of_drive_comes_file_by_file(services, tmp_path):
    root = fetch_dataset("https://drive.google.com/drive/folders/TOP?usp=sharing", tmp_path / "mine", services.sites)
    assert root == tmp_path / "mine"
    assert files_in(root) == ["audio/a.wav", "audio/b & c.wav", "transcriptions/a.txt"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ONE", ["audio/a.wav"]),
        ("ZIP", ["data/audio/a.wav", "data/audio/b.wav", "data/transcriptions/a.txt"]),
        ("MODEL", ["model.pth"]),
    ],
)
def test_a_folder_of_drive_with_one_file_is_unpacked_only_if_it_is_an_archive(services, tmp_path, name, expected):
    link = f"https://drive.google.com/drive/folders/{name}"
    assert files_in(fetch_files(link, tmp_path / "mine", services.sites)) == expected


def test_a_direct_link_that_is_cut_is_continued_by_the_next_call(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with hostile_server(ZIP) as server:
        server.faults = {"etag": '"v1"', "cut": len(ZIP) // 2 + 1}
        assert fetch_dataset(server.url, tmp_path / "mine") == tmp_path / "mine" / "data"
        assert [request.get("Range") for request in server.requests] == [None, f"bytes={len(ZIP) // 2 + 1}-"]


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("https://drive.google.com/file/d/CLOSED/view", "share it with everyone who has the link"),
        ("https://drive.google.com/file/d/NONE/view", "answers 404: there is no such file, or it is not shared"),
        ("https://drive.google.com/drive/my-drive", "expected a link of Google Drive such as"),
        ("https://drive.google.com/drive/folders/EMPTY", "the folder is empty, or it is not shared"),
        ("https://drive.google.com/drive/folders/BAD", r"refused, a file in it is called '../a.wav'"),
        ("https://drive.google.com/file/d/WAV/view", "damaged, or not an archive"),
        ("https://drive.google.com/file/d/GARBAGE/view", "cannot be reached: no answer of HTTP"),
        ("https://disk.yandex.ru/d/OTHER", "there is no such public file or folder"),
        ("https://disk.yandex.ru/client/disk", "expected a link of Yandex Disk such as"),
        ("recordings.zip", "neither an address that starts with https:// nor a file or folder"),
    ],
)
def test_what_a_link_may_lack_is_said_in_one_line(services, tmp_path, link, message, capsys):
    with pytest.raises(DataError, match=message):
        fetch_dataset(link, tmp_path / "mine", services.sites)
    assert list(tmp_path.iterdir()) == []
    assert fetch.main([link, "-o", str(tmp_path / "mine")], services.sites) == 2
    assert capsys.readouterr().err.count("error:") == 1


def test_another_file_than_yandex_announces_is_removed(services, tmp_path):
    services.digest = "0" * 64
    with pytest.raises(DataError, match="removed, because its sha256 is"):
        fetch_dataset("https://disk.yandex.ru/d/KEY", tmp_path / "mine", services.sites)


def test_an_archive_or_a_folder_of_this_machine_will_do(tmp_path, capsys):
    (tmp_path / "x.zip").write_bytes(archive(prefix=""))
    assert fetch.main([str(tmp_path / "x.zip"), "-o", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine'}: 2 recordings, 0.0 minutes, 1 with transcripts\n"
    assert fetch_dataset(str(tmp_path / "mine"), tmp_path / "other") == tmp_path / "mine"
    assert not (tmp_path / "other").exists()


def test_recordings_without_a_folder_of_their_own_are_found(tmp_path):
    (tmp_path / "x.zip").write_bytes(archive(prefix="a/b/", names=("1.wav", "1.txt")))
    assert fetch_dataset(str(tmp_path / "x.zip"), tmp_path / "mine") == tmp_path / "mine" / "a" / "b"
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="has no folder 'audio' and no recordings"):
        dataset_root(tmp_path / "none")


def test_an_archive_of_checkpoints_is_unpacked_too(tmp_path, capsys):
    (tmp_path / "x.zip").write_bytes(archive(prefix="train_logs/", names=("G_1.pth", "D_1.pth")))
    assert fetch.main([str(tmp_path / "x.zip"), "-o", str(tmp_path / "mine")]) == 0
    assert (tmp_path / "mine" / "train_logs" / "G_1.pth").exists()
    assert capsys.readouterr().out.endswith("mine: 3 files, no recordings among them\n")

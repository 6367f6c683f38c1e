"""Checkpoints from elsewhere: addresses, checksums, the cache, the Hub; each mistake is one line."""

import hashlib
import http.server
import io
import json
import logging
import os
import pickle
import shutil
import ssl
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

import test as test_script
import train as train_script
from hw_base import checkpoint, trained
from hw_base.errors import CheckpointError, ConfigError, DataError, MissingPackageError
from hw_base.files import sources
from tests.conftest import ROOT
from tests.hostile_server import hostile_server

DS2 = ROOT / "tests" / "data" / "first_edition" / "ds2" / "checkpoint-00000008.pth"
CONTENT = DS2.read_bytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PIN = f"#sha256={SHA256}"


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server():
    with hostile_server(CONTENT) as made:
        made.url = made.url.replace("file.tar.gz", "model.pth")
        yield made


def left(tmp_path):
    return [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_path_stays_what_it_is(tmp_path):
    for path in (DS2, str(DS2), tmp_path, "not/there.pth", "https"):
        assert str(sources.local(path)) == str(path)
        assert not sources.is_address(path)


def test_a_pinned_address_is_loaded_once_and_then_taken_from_the_cache(server, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        path = sources.local(server.url + PIN)
        assert path == sources.local(server.url + PIN)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(tmp_path / "cache" / "hw_speech" / "checkpoints")
    assert len(server.requests) == 1
    assert caplog.text == ""


@pytest.mark.parametrize("name", ["..", "%2e%2e", ".lock", ""])
def test_whatever_the_address_ends_in_is_a_file_of_the_cache(name, server, tmp_path):
    path = sources.local(server.url.replace("model.pth", name) + PIN)
    assert path.read_bytes() == CONTENT
    assert path.resolve().parent.parent == (tmp_path / "cache" / "hw_speech" / "checkpoints").resolve()


def test_a_connection_that_is_cut_is_resumed(server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    server.faults = {"cut": len(CONTENT) // 3, "etag": '"v1"'}
    assert sources.local(server.url + PIN).read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests][1] == f"bytes={len(CONTENT) // 3}-"


def test_without_a_checksum_one_line_says_what_it_is(server, caplog):
    with caplog.at_level(logging.WARNING):
        sources.local(server.url)
    (record,) = [record for record in caplog.records if record.name == "hw_base.files.sources"]
    assert record.getMessage().endswith(f"to be sure of it, write {server.url}{PIN}")


def test_another_file_than_the_checksum_says_is_not_kept(server, tmp_path):
    server.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    with pytest.raises(DataError, match=r"its sha256 is .* should have"):
        sources.local(server.url + PIN)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://example.org/a.pth", "can be changed on its way; give an https address"),
        ("https://example.org/a.pth#sha256=12", "64 hexadecimal digits behind the address, found #sha256=12"),
        ("https://example.org/a.pth#md5=" + 64 * "0", "expected #sha256="),
        ("hf://just-a-name", "expected hf://OWNER/REPO/FILE"),
        ("hf://owner/repo", "expected hf://OWNER/REPO/FILE"),
    ],
)
def test_a_malformed_address_is_one_line(address, message):
    with pytest.raises(ConfigError, match=message) as error:
        sources.local(address)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_holds_code_is_refused_wherever_it_comes_from(server):
    class Evil:
        def __reduce__(self):
            return os.system, ("touch hacked",)

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"format": 2, "model": Evil()}))
        archive.writestr("archive/version", "3\n")
    server.content = buffer.getvalue()
    with pytest.raises(CheckpointError):
        trained.load(server.url)


def test_the_programs_take_an_address_where_they_take_a_checkpoint(server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--set", "data.test.limit=2", "-d", "cpu"]
    for source, output in ((server.url + PIN, "a.json"), (str(DS2), "b.json")):
        assert test_script.main(["-r", source, "-o", output, *few]) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads((tmp_path / "b.json").read_text())
    # A training goes into a folder of its own, not into the cache.
    steps = ["--set", "trainer.max_steps=10", "trainer.preflight=false", "-d", "cpu"]
    assert train_script.main(["-r", server.url + PIN, *steps]) == 0
    (run,) = (tmp_path / "saved").glob("*/*")
    assert checkpoint.load(run / "checkpoint-00000010.pth", needs=("step",))["step"] == 10
    init = [f"init_from={json.dumps(server.url + PIN)}", "trainer.max_steps=1", "trainer.preflight=false"]
    config = str(DS2.parent / "config.json")
    assert train_script.main(["-c", config, "--run-dir", "new", "-d", "cpu", "--set", *init]) == 0
    assert len(server.requests) == 1
    capsys.readouterr()
    assert test_script.main(["-r", server.url + "#sha256=" + 64 * "0", "-o", "c.json"]) == 2
    assert capsys.readouterr().err.count("error: ") == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_https_is_verified_by_the_certificate(server, tmp_path, monkeypatch):
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate]
    subprocess.run(make, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    address = f"https://localhost:{server.server_port}/model.pth{PIN}"
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with pytest.raises(DataError, match="CERTIFICATE_VERIFY_FAILED"):
        sources.local(address)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    monkeypatch.setattr(
        "urllib.request._opener", None
    )  # made by another test, it knows other certificates from 3.12 on
    assert sources.local(address).read_bytes() == CONTENT
    # From there to a server without a certificate: what it sends counts only where a checksum holds it.
    with hostile_server(CONTENT) as plain:
        server.faults = {"location": plain.url}
        with pytest.raises(DataError, match="which can be changed on its way; give a checksum"):
            sources.local(f"https://localhost:{server.server_port}/other.pth")
        assert sources.local(f"https://localhost:{server.server_port}/other.pth{PIN}").read_bytes() == CONTENT


def test_without_huggingface_hub_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match="pip install huggingface_hub"):
        sources.local("hf://owner/repo/model.pth")


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as serves one file."""

    def do_HEAD(self):
        self.do_GET(body=False)

    def do_GET(self, body=True):
        found = self.path.startswith("/owner/repo/resolve/main/model.pth")
        self.send_response(200 if found else 404)
        for name, value in {"X-Repo-Commit": 40 * "a", "ETag": f'"{SHA256}"', "Content-Length": len(CONTENT)}.items():
            self.send_header(name, str(value) if found else "0")
        self.end_headers()
        if body and found:
            self.wfile.write(CONTENT)

    def log_message(self, *arguments):
        """Nothing on the terminal."""


def test_a_file_on_the_hub_is_loaded_and_verified(tmp_path):
    """By its own library, which is told of a local server before it is imported."""
    pytest.importorskip("huggingface_hub", reason="reads the Hub")
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    code = f"""
from hw_base.files import sources
from hw_base.errors import DataError
print(sources.local("hf://owner/repo/model.pth{PIN}"))
for address in ("hf://owner/repo/model.pth#sha256={64 * "0"}", "hf://owner/repo/other.pth"):
    try:
        sources.local(address)
    except DataError as error:
        print(error)
"""
    environment = {**os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{made.server_port}", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    made.shutdown()
    made.server_close()
    assert done.returncode == 0, done.stderr
    path, pinned, missing = done.stdout.splitlines()
    assert path.startswith(str(tmp_path / "cache" / "hw_speech" / "checkpoints" / "hub"))
    assert Path(path).read_bytes() == CONTENT
    assert f"its sha256 is {SHA256}, where {64 * '0'} was expected" in pinned
    assert "other.pth: cannot be downloaded" in missing

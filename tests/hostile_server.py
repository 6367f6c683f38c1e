"""A local web server that does everything wrong that servers do."""

import contextlib
import http.server
import re
import threading
from collections.abc import Iterator


class Hostile(http.server.BaseHTTPRequestHandler):
    """Serves `content` with the faults that the server object names."""

    def do_GET(self):
        faults = self.server.faults
        self.server.requests.append(dict(self.headers))
        content = self.server.content
        if "status" in faults and len(self.server.requests) <= faults.get("times", 10**9):
            self.send_error(faults["status"])
            return
        if "location" in faults:
            self.send_response(302)
            self.send_header("Location", faults["location"])
            self.end_headers()
            return
        if "html" in faults:
            self.reply(200, b"<!DOCTYPE html><title>Please log in</title>" * 9, kind=faults["html"])
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match and "no_ranges" not in faults else 0
        if (
            start
            and "etag" in faults
            and "no_if_range" not in faults
            and self.headers.get("If-Range") not in (None, faults["etag"])
        ):
            start = 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content) + faults.get('stubborn', 0)}")
            self.end_headers()
            return
        shift = faults.get("wrong_range", 0) if start else 0
        end = len(content) if "cut" not in faults else min(len(content), start + faults["cut"])
        self.reply(206 if start else 200, content[start:end], start + shift, len(content) + faults.get("lie", 0))

    def reply(self, status, body, start=0, total=None, kind="application/gzip"):
        total = len(body) if total is None else total
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if "no_length" not in self.server.faults:
            self.send_header("Content-Length", self.server.faults.get("length", str(total - start)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if "etag" in self.server.faults:
            self.send_header("ETag", self.server.faults["etag"])
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, *arguments):
        """Nothing on the terminal."""


@contextlib.contextmanager
def hostile_server(content: bytes) -> Iterator[http.server.ThreadingHTTPServer]:
    """A running server; its ``faults`` say what it does wrong and ``requests`` keeps the headers that came."""
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    made.faults, made.requests, made.content = {}, [], content
    made.url = f"http://127.0.0.1:{made.server_port}/file.tar.gz"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.shutdown()
        made.server_close()

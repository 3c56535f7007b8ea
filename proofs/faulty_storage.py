"""A storage that fails on request: a proxy before a loopback S3 that answers with errors, or late."""

from __future__ import annotations

import dataclasses
import http.client
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from hosts import Storage

ERRORS, DELAYS, SILENCE = "errors", "delays", "silence"
"""Every second request answered with 503 and every second with 500; each 8 s late; no answer at all."""
_LATE = 8.0

_SLOW_DOWN = (
    b"""<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>"""
)
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass
class Faulty:
    """The storage behind the proxy, and how that behaves now."""

    storage: Storage
    """As its users see it."""
    fault: str | None = None
    met: Counter[str] = field(default_factory=Counter)
    """Requests that met each fault."""


@contextmanager
def faulty(behind: Storage, address: str) -> Iterator[Faulty]:
    """Put a proxy at `address` before a storage."""
    upstream = urlsplit(behind.endpoint).netloc

    class Proxy(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self._body()
            fault = found.fault
            if fault:
                found.met[fault] += 1
            if fault == SILENCE:
                self.close_connection = True
                time.sleep(_LATE)
                return
            if fault == ERRORS:
                self._answer(503 if found.met[fault] % 2 else 500, [], _SLOW_DOWN)
                return
            if fault == DELAYS:
                time.sleep(_LATE)
            there = http.client.HTTPConnection(upstream, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
            there.request(self.command, self.path, body, headers)
            answer = there.getresponse()
            content = answer.read()
            kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP]
            length = answer.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer.status, kept, content, length)
            there.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _answer(
            self, status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
        ) -> None:
            self.send_response_only(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", length or str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that has given up is no news."""

    server = Server((address, 0), Proxy)
    seen = dataclasses.replace(behind, endpoint=f"http://{address}:{server.server_port}")
    found = Faulty(seen)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        found.fault = None
        server.shutdown()
        server.server_close()

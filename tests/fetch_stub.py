"""A home of public cohorts on 127.0.0.1, for tests: ranges, tags, and every way to fail that a server has."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What the server has under one address."""

    content: bytes
    tag: str | None = '"first"'
    ranges: bool = True
    length: bool = True
    """Whether it says how long the answer is."""
    zips: bool = False
    """Whether it compresses on the way for those who accept that."""
    breaks: list[int] = field(default_factory=list)
    """Bytes after which the connection breaks, of the first answers."""
    statuses: list[int] = field(default_factory=list)
    """What it answers first."""
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[Served], None] | None = None
    """Called before every answer."""


@dataclass
class Home:
    """The server, while it runs."""

    port: int = 0
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Address and Range of every request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def serve(self, address: str, content: bytes | Any, **how: Any) -> Served:
        """Have `content` (bytes, or what becomes JSON) under an https address of the real home."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        served = Served(body, **how)
        self.files["/" + address.removeprefix("https://")] = served
        return served


@contextmanager
def running() -> Iterator[Home]:
    """A home that answers until the block ends."""
    home = Home()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, home)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the screen of the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    home.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield home
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, home: Home) -> None:
    wanted = request.headers.get("Range")
    home.asked.append((request.path, wanted))
    served = home.files.get(request.path)
    if served is None:
        request.send_error(404)
        return
    if served.before:
        served.before(served)
    if served.statuses:
        request.send_response(served.statuses.pop(0))
        for name, value in served.headers.items():
            request.send_header(name, value)
        request.end_headers()
        return
    if served.zips and "gzip" in request.headers.get("Accept-Encoding", ""):
        served.content = gzip.compress(served.content)
    start, total = 0, len(served.content)
    condition = request.headers.get("If-Range")
    if wanted and served.ranges and condition in (None, served.tag):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        request.send_response(206 if start < total else 416)
        request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    else:
        request.send_response(200)
    if served.tag:
        request.send_header("ETag", served.tag)
    if served.length:
        request.send_header("Content-Length", str(max(total - start, 0)))
    for name, value in served.headers.items():
        request.send_header(name, value)
    request.end_headers()
    body = served.content[start:]
    request.wfile.write(body[: served.breaks.pop(0)] if served.breaks else body)


def git_sha(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def tar_of(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """A tar with these files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def serve_zenodo(home: Home, api: str, addresses: dict[str, str], archives: dict[str, bytes]) -> None:
    """A Zenodo record: the list with sizes and md5, and the files."""
    listed = [
        {"key": name, "size": len(content), "checksum": f"md5:{hashlib.md5(content).hexdigest()}"}
        for name, content in archives.items()
    ]
    home.serve(api, {"id": 4739739, "files": listed})
    for name, content in archives.items():
        home.serve(addresses[name], content)


def serve_github(home: Home, tree: str, raw: str, files: dict[str, bytes]) -> None:
    """A GitHub repository: the list of its files, with a link such as editors leave, and the files."""
    entries: list[dict[str, Any]] = [
        {"path": name, "mode": "100644", "type": "blob", "sha": git_sha(content), "size": len(content)}
        for name, content in files.items()
    ]
    folders = {re.sub(r"/[^/]*$", "", name) for name in files if "/" in name}
    entries += [{"path": f, "mode": "040000", "type": "tree", "sha": "0" * 40} for f in folders]
    entries.append({"path": ".#a.py", "mode": "120000", "type": "blob", "sha": "0" * 40, "size": 9})
    home.serve(tree, {"sha": "1" * 40, "truncated": False, "tree": entries})
    for name, content in files.items():
        home.serve(raw + name, content, tag=f'"{git_sha(content)}"')

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray.data import location
from senca_ray.data.location import connect, download, list_files, read_bytes, write_bytes, wrong_key
from senca_ray.errors import SencaError


class Refusing(BaseHTTPRequestHandler):
    """A storage that answers everything with one error."""

    answer: ClassVar[tuple[int, str]] = (403, "AccessDenied")

    def _refuse(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, code = self.answer
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_PUT = do_POST = do_HEAD = _refuse

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def refusing(credentials: Callable[[str], None]) -> Iterator[type[Refusing]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    credentials(f"http://127.0.0.1:{server.server_port}")
    yield Refusing
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, "AccessDenied"), "access denied.*AWS_ACCESS_KEY_ID"),
        ((403, "InvalidAccessKeyId"), "access denied"),
        ((403, "SignatureDoesNotMatch"), "access denied"),
        ((400, "ExpiredToken"), "the credentials have expired"),
        ((301, "PermanentRedirect"), "the bucket lies in another region.*AWS_REGION"),
        ((400, "AuthorizationHeaderMalformed"), "the bucket lies in another region"),
        ((404, "NoSuchBucket"), "no such bucket"),
    ],
)
def test_what_a_storage_refuses_is_told_in_words(
    refusing: type[Refusing], monkeypatch: pytest.MonkeyPatch, answer: tuple[int, str], words: str
) -> None:
    monkeypatch.setattr(refusing, "answer", answer)
    for attempt in (lambda: list_files("s3://there/folder"), lambda: write_bytes("s3://there/x", b"1")):
        with pytest.raises(SencaError, match=rf"s3://there/\w+: {words}"):
            attempt()


def test_no_credentials_at_all(refusing: type[Refusing], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(SencaError, match="access denied: no credentials on this machine"):
        list_files("s3://there/folder")


def test_an_endpoint_that_cannot_be_reached(
    credentials: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials("http://127.0.0.1:9")
    monkeypatch.setattr(location, "_ATTEMPTS", 1)
    with pytest.raises(SencaError, match=r"s3://there: the storage cannot be reached.*AWS_ENDPOINT_URL"):
        list_files("s3://there")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://there/x", r"expected a folder, s3://BUCKET/FOLDER or gs://"),
        ("s3://", "bucket '' found"),
        ("s3:///x", "bucket '' found"),
        ("s3://there/../x", r"leads elsewhere"),
        ("s3://there/a//b", r"leads elsewhere"),
        ("s3://key:geheim@there/x", "an address with credentials"),
        ("gs://key:geheim@there/x", "an address with credentials"),
        ("s3://there/x?secret_key=geheim", "an address with options; set AWS_ENDPOINT_URL"),
    ],
)
def test_what_is_no_address(address: str, words: str) -> None:
    with pytest.raises(SencaError, match=words) as raised:
        connect(address)
    assert "geheim" not in str(raised.value)


def test_a_file_comes_back_as_it_was_sent(bucket: str, tmp_path: Path) -> None:
    assert read_bytes(f"s3://{bucket}/a/b") is None and list_files(f"s3://{bucket}/a") == {}
    write_bytes(f"s3://{bucket}/a/b c%20ü", b"hello")
    assert read_bytes(f"s3://{bucket}/a/b c%20ü") == b"hello"
    download(f"s3://{bucket}/a", [("b c%20ü", tmp_path / "new" / "b", 5)])
    assert (tmp_path / "new" / "b").read_bytes() == b"hello"
    with pytest.raises(SencaError, match="5 bytes read, 6 expected"):
        download(f"s3://{bucket}/a", [("b c%20ü", tmp_path / "b", 6)])


@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.c", "\\", "\n", "ü x", "…"]), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_a_key_either_stays_below_its_folder_or_is_refused(parts: list[str]) -> None:
    key = "/".join(parts)
    inside = Path("/base", key).as_posix() == f"/base/{key}" and ".." not in parts
    assert bool(wrong_key(key)) == (not inside or any(sign in key for sign in "\\\n"))

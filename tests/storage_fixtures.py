"""Fixtures: a storage like S3 on this machine, and a bucket in it."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_COUNT = itertools.count()
_NONE_OF_MINE = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a storage on this machine, in this process."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SENCA_CACHE_GB", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this process use the storage at an address, with a key."""

    def use(endpoint: str) -> None:
        for name in _NONE_OF_MINE:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_REGION", "us-east-1")

    return use


@pytest.fixture
def bucket(s3_server: str, credentials: Callable[[str], None], own_cache: Path) -> str:
    """Name of an empty bucket that this process can write to."""
    from pyarrow import fs

    credentials(s3_server)
    name = f"bucket-{next(_COUNT)}"
    fs.S3FileSystem(endpoint_override=s3_server, allow_bucket_creation=True).create_dir(name)
    return name


@pytest.fixture
def s3(s3_server: str, bucket: str):  # type: ignore[no-untyped-def]  # of boto3, which has no types
    """A client for what pyarrow neither does nor shows."""
    import boto3

    return boto3.client("s3", endpoint_url=s3_server, region_name="us-east-1")

"""Where data lies: a folder on disk, or one in S3 or GCS; and what goes wrong on the way there, in words.

An address is `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER` and nothing more. Endpoint, region and credentials
belong to a machine, not to an address: addresses are kept in study files.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TypeVar, cast

import pyarrow as pa
import tenacity
from pyarrow import fs

from senca_ray.errors import SencaError

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CONNECT, _SILENCE, _ATTEMPTS, _GCS_RETRIES = 5.0, 10.0, 3, timedelta(seconds=20)
"""Seconds to connect, seconds without a byte, attempts; GCS by itself would try for a quarter of an hour."""
_AWAY_FOR = 600.0
"""Seconds for which work that is paid for already waits for a storage."""
_PIECE = 8 << 20
_AS_IT_IS: dict[str, None] = {"compression": None}
"""Streams would otherwise unpack and pack what is called .gz."""
_AT_ONCE = 8
"""Files that are transferred side by side."""

Found = TypeVar("Found")

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")


class StorageAway(SencaError):
    """The storage does not answer, or asks for patience: what was asked may work later."""


_AWAY = (
    (
        r"SLOW_DOWN|SlowDown|status 503|TOO_MANY_REQUESTS",
        "the storage asks for patience; run it again in a while",
    ),
    (
        r"INTERNAL_FAILURE|InternalError|status 50[024]|SERVICE_UNAVAILABLE",
        "the storage is out of order; run it again in a while",
    ),
    (
        r"NETWORK_CONNECTION|UNAVAILABLE|REQUEST_TIMEOUT|DEADLINE_EXCEEDED|CURL error|curlCode",
        "the storage cannot be reached; check the network and, for a storage of your own, AWS_ENDPOINT_URL",
    ),
)
"""What errors that may pass mean, the first that fits."""

_MEANINGS = (
    (
        r"NO_SUCH_BUCKET|bucket does not exist|Bucket .* not found",
        "no such bucket; create it, or correct its name",
    ),
    (r"status code: 404", "no such bucket, or no such object in it; create it, or correct its name"),
    (r"ExpiredToken|TokenRefreshRequired", "the credentials have expired; renew them on this machine"),
    (
        r"ACCESS_DENIED|INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|InvalidToken|OAuth2|UNAUTHENTICATED"
        r"|PERMISSION_DENIED",
        "access denied: no credentials on this machine, wrong ones, or none with the right to this folder; "
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a role (GCS: "
        "GOOGLE_APPLICATION_CREDENTIALS)",
    ),
    (
        r"HTTP status 301|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint",
        "the bucket lies in another region than the one asked; set AWS_REGION to the bucket's, or unset it",
    ),
)
"""What the other errors of the storages mean, the first that fits."""


def is_remote(location: str) -> bool:
    """Whether `location` is the address of a storage; anything else is a folder or file on disk."""
    return "://" in location


def address_of(folder: Path) -> str | None:
    """The address that a path was made of, of whose two slashes pathlib leaves one; None for a folder."""
    scheme, *rest = folder.parts or ("",)
    return f"{scheme}//{'/'.join(rest)}" if scheme in ("s3:", "gs:") else None


def connect(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of an address and the path in it (BUCKET/FOLDER); nothing there needs to exist.

    Raises SencaError for an address that cannot be one, or where a bucket's region cannot be found out.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.rstrip("/").partition("/")
    if scheme == "file":
        return fs.LocalFileSystem(), rest.rstrip("/")
    anonymous = scheme == "gs" and bucket.startswith("anonymous@")
    bucket = bucket.removeprefix("anonymous@") if anonymous else bucket
    if scheme not in ("s3", "gs"):
        raise SencaError(f"{scheme}://…: expected a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER")
    if "@" in bucket:  # not repeated: it would stand in logs
        raise SencaError(
            f"{scheme}://…@…: an address with credentials; addresses are kept in study files, so leave them "
            "out and give them to the machine (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, profile or role)"
        )
    if "?" in rest:
        raise SencaError(
            f"{uri.partition('?')[0]}?…: an address with options; set AWS_ENDPOINT_URL and AWS_REGION instead"
        )
    if not _BUCKET.fullmatch(bucket):
        raise SencaError(f"{uri}: bucket {bucket!r} found; expected {scheme}://BUCKET/FOLDER")
    if wrong := wrong_key(key) if key else "":
        raise SencaError(f"{uri}: {wrong}; expected {scheme}://BUCKET/FOLDER")
    with in_words(uri):
        if scheme == "gs":
            filesystem: fs.FileSystem = fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=_GCS_RETRIES)
        else:
            filesystem = _s3(bucket)
    return filesystem, f"{bucket}/{key}" if key else bucket


def _s3(bucket: str) -> fs.S3FileSystem:
    # Made by hand: of what `from_uri` makes, a silent endpoint is given up after 100 s only.
    endpoint, region = _first(_ENDPOINTS), _first(_REGIONS)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region or ("us-east-1" if endpoint else _region(bucket)),
        connect_timeout=_CONNECT,
        request_timeout=_SILENCE,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        allow_delayed_open=True,  # a small file is one request, and so there or not
    )


@functools.cache
def _region(bucket: str) -> str:
    """A bucket stays where it is, so it is asked for once."""
    return str(fs.resolve_s3_region(bucket))


def _first(names: Iterable[str]) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)


@contextmanager
def in_words(place: str) -> Iterator[None]:
    """Turn what storages and disks refuse within the block into a SencaError about `place`."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        text = " ".join(str(error).split())
        meaning = next((words for sign, words in _MEANINGS if re.search(sign, text)), None)
        away = next((words for sign, words in _AWAY if re.search(sign, text)), None)
        if meaning is None and away:
            raise StorageAway(f"{place}: {away} ({text:.240})") from None
        if meaning is None and getattr(error, "errno", None) is not None:
            text = f"{error.strerror or error}" if isinstance(error, OSError) else text
        raise SencaError(f"{place}: {f'{meaning} ({text:.240})' if meaning else text}") from None


def wrong_key(key: str) -> str:
    """Why the name of an object cannot be that of a local file below a folder; empty where it can."""
    parts = key.split("/")
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") for sign in key):
        return f"{key!r:.120} has control characters in its name"
    if "\\" in key or any(part in ("", ".", "..") for part in parts):
        return f"{key!r:.120} leads elsewhere: '..', '.', an empty part or a backslash in its name"
    if any(len(os.fsencode(part)) > 255 for part in parts):
        return f"{key!r:.120} has a part of more than 255 bytes in its name"
    return ""


def list_files(uri: str) -> dict[str, fs.FileInfo]:
    """Every file below an address, by its name relative to it, in order; empty where there is none.

    Names are as the storage has them: check them before any becomes a local path. Raises SencaError.
    """
    filesystem, path = connect(uri)
    with in_words(uri):
        try:
            # Not `allow_not_found`: it would hide that the bucket itself is not there.
            found = filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        except OSError as error:
            if isinstance(error, FileNotFoundError) or "No such file or directory" in str(error):
                return {}
            raise
    files = {i.path.removeprefix(f"{path}/"): i for i in found if i.type == fs.FileType.File}
    return dict(sorted(files.items()))


def read_bytes(uri: str) -> bytes | None:
    """The content of a small remote file, None where there is none; raises SencaError."""
    filesystem, path = connect(uri)
    with in_words(uri):
        try:
            with filesystem.open_input_stream(path, **_AS_IT_IS) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


def write_bytes(uri: str, content: bytes) -> None:
    """Write a small remote file, whole or not at all; raises SencaError."""
    filesystem, path = connect(uri)
    with in_words(uri), filesystem.open_output_stream(path, **_AS_IT_IS) as file:
        file.write(content)


def delete(uri: str, names: Iterable[str]) -> None:
    """Remove files below an address; raises SencaError."""
    filesystem, path = connect(uri)
    for name in names:
        with in_words(f"{uri}/{name}"):
            filesystem.delete_file(f"{path}/{name}")


def patiently(attempt: Callable[[], Found], told: Callable[[StorageAway], None]) -> Found:
    """What `attempt` returns, asked again for ten minutes while the storage is away; `told` of every failure.

    Raises what it raised at last.
    """
    for again in tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(StorageAway),
        wait=tenacity.wait_random_exponential(1, max=20),
        stop=tenacity.stop_after_delay(_AWAY_FOR),
        after=lambda state: told(cast(StorageAway, state.outcome.exception())) if state.outcome else None,
        reraise=True,
    ):
        with again:
            return attempt()
    raise AssertionError("unreachable: the last attempt returns or raises")


def download(uri: str, files: Iterable[tuple[str, Path, int]]) -> None:
    """Copy files below an address, each given by its name, local path and size in bytes; folders are made.

    Raises SencaError, also for a file of another size.
    """
    filesystem, path = connect(uri)

    def one(name: str, to: Path, size: int) -> None:
        with in_words(f"{uri}/{name}"):
            to.parent.mkdir(parents=True, exist_ok=True)
            far = filesystem.open_input_stream(f"{path}/{name}", **_AS_IT_IS)
            with far as source, to.open("wb") as target:
                shutil.copyfileobj(source, target, _PIECE)
        if (found := to.stat().st_size) != size:
            raise SencaError(f"{uri}/{name}: {found} bytes read, {size} expected; run it again")

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(lambda file: one(*file), files))


def upload(filesystem: fs.FileSystem, local: Path, path: str) -> None:
    """Copy a local file; what breaks off may leave part of it behind. Raises OSError."""
    with local.open("rb") as source, filesystem.open_output_stream(path, **_AS_IT_IS) as target:
        shutil.copyfileobj(source, target, _PIECE)

"""One file from an address: resumed where it stopped, checked, and whole or not there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from senca_ray.errors import SencaError
from senca_ray.fetch.checksums import SHA256, Checksum, checksum
from senca_ray.fetch.client import Client, DownloadError

if TYPE_CHECKING:
    import requests

_CHUNK = 1 << 18
_SPARE = 64 * 2**20
"""Bytes of disk that stay free."""

Progress = Callable[[int, int | None], None]
"""Takes the bytes of a file that are there, and its size where that is known."""


@dataclass(frozen=True)
class Remote:
    """A file at its home."""

    address: str
    size: int | None = None
    checksum: Checksum | None = None
    """None where the home publishes none."""


@dataclass
class Unfinished:
    """What has to be remembered of a .part file, so that it is never continued with another file's bytes."""

    validator: str | None = None
    """ETag or date of the file that it is the beginning of; None where the server gave none."""
    remember: Callable[[str | None], None] = lambda validator: None
    """Keeps a validator until the next call."""


def part_of(path: Path) -> Path:
    """Where a file is while it is incomplete."""
    return path.with_name(path.name + ".part")


def room(folder: Path, wanted: int) -> None:
    """Raise SencaError if `folder` has less free than `wanted` bytes and some spare."""
    free = shutil.disk_usage(folder).free
    if free < wanted + _SPARE:
        raise SencaError(
            f"{folder}: {free / 1e9:.2f} GB free; expected {(wanted + _SPARE) / 1e9:.2f} GB; free space "
            "there, or name a folder on another disk"
        )


def download(
    client: Client, remote: Remote, path: Path, limit: int, unfinished: Unfinished, progress: Progress
) -> Checksum:
    """Bring `remote` to `path` and return the checksum it was checked with (or, without one, its own).

    Raises DownloadError where the home is at fault, SencaError for the disk; PATH.part is kept for the next
    call in either case unless its bytes are wrong.
    """
    from urllib3.exceptions import HTTPError, MaxRetryError

    part = part_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    retry = client.retry
    while True:
        resumed = _resumable(part, remote, unfinished)
        try:
            size = _receive(client, remote, part, limit, unfinished, progress)
        except HTTPError as error:
            # The connection broke in the middle: go on from there, as often as the retries allow.
            try:
                retry = retry.increment("GET", remote.address, error=error)
            except (MaxRetryError, HTTPError):
                raise DownloadError(f"{remote.address}: the connection breaks again and again") from None
            retry.sleep()
            continue
        except OSError as error:
            raise SencaError(f"{part}: cannot be written ({error}); free space or allow writing") from None
        found = checksum(part, remote.checksum.kind if remote.checksum else SHA256)
        fault = _fault(part, size, remote, found)
        if fault is None:
            part.replace(path)
            return found
        part.unlink()
        if not resumed:
            raise DownloadError(f"{remote.address}: {fault}")
        # The beginning was from another file, or damaged on the disk: once more from the start.


def _resumable(part: Path, remote: Remote, unfinished: Unfinished) -> bool:
    """Whether a .part file may be continued: only where a mix of two files would be noticed."""
    if part.is_file() and part.stat().st_size and (unfinished.validator or remote.checksum):
        return True
    part.unlink(missing_ok=True)
    return False


def _receive(
    client: Client,
    remote: Remote,
    part: Path,
    limit: int,
    unfinished: Unfinished,
    progress: Progress,
) -> int | None:
    """Append what is missing to `part`; returns the size that the server names, None where it names none."""
    there = part.stat().st_size if part.is_file() else 0
    if remote.size is not None and there == remote.size:
        return remote.size
    headers = {}
    if there:
        headers["Range"] = f"bytes={there}-"
        if unfinished.validator:
            headers["If-Range"] = unfinished.validator
    with client.get(remote.address, headers) as response:
        start, size = _extent(response, there)
        if start is None:
            part.unlink()
            return _receive(client, remote, part, limit, unfinished, progress)
        if remote.size is not None and size is not None and size != remote.size:
            raise DownloadError(
                f"{remote.address}: {size} bytes; expected {remote.size}, as its home lists it; try later"
            )
        _within(remote, size or 0, limit)
        room(part.parent, max((size or 0) - start, 0))
        unfinished.validator = _validator(response)
        unfinished.remember(unfinished.validator)
        with part.open("ab" if start else "wb") as file:
            done = start
            progress(done, size)
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                done += len(chunk)
                _within(remote, done, limit if size is None else size)
                file.write(chunk)
                progress(done, size)
    return size


def _extent(response: requests.Response, there: int) -> tuple[int | None, int | None]:
    """First byte of the answer and size of the whole file; no first byte where it is not what was asked."""
    if response.status_code == 206:
        given = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
        if there and given and int(given[1]) == there:
            return there, int(given[2])
    if response.status_code != 200:
        if not there:
            raise DownloadError(f"{response.url}: answers {response.status_code}; expected the whole file")
        return None, None
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _validator(response: requests.Response) -> str | None:
    """What tells this file from a later one under the same address; weak tags do not."""
    tag = response.headers.get("ETag")
    if tag and not tag.startswith("W/"):
        return tag
    return response.headers.get("Last-Modified")


def _within(remote: Remote, size: int, limit: int) -> None:
    if size > limit:
        raise DownloadError(f"{remote.address}: {size} bytes or more; expected at most {limit}; stopped")


def _fault(part: Path, size: int | None, remote: Remote, found: Checksum) -> str | None:
    """What is wrong with a complete .part file; None where nothing is."""
    there = part.stat().st_size
    expected = remote.size if remote.size is not None else size
    if expected is not None and there != expected:
        return f"{there} bytes received; expected {expected}; try again"
    if remote.checksum and found != remote.checksum:
        return (
            f"checksum {found} found; expected {remote.checksum}, as its home publishes it; the file was "
            "changed there or on the way; try again, and tell its authors if it stays"
        )
    return None

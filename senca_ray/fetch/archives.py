"""Looking into archives that others packed: names and sizes are checked before a byte is unpacked."""

from __future__ import annotations

import gzip
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, cast

from senca_ray.errors import SencaError

MAX_MEMBERS = 20_000
_MAX_READ = 16 * 2**20
"""Bytes that may be asked for at once: a header that declares more is not one of a real archive."""


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    size: int
    """Bytes it unpacks to, as the archive declares."""
    plain: bool
    """Whether it is a file, not a folder, link or device."""
    folder: bool = False


class Archive(Protocol):
    """An archive that is open."""

    def members(self) -> Iterator[Member]:
        """Its entries, one at a time."""
        ...

    def open(self, name: str) -> IO[bytes]:
        """The bytes of an entry that `members` gave."""
        ...


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open a tar (gzipped or not) or zip by its first bytes; raises SencaError for damaged ones."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04":
            with zipfile.ZipFile(path) as packed:
                yield _Zip(packed)
        else:
            with gzip.open(path) if start[:2] == b"\x1f\x8b" else path.open("rb") as stream:
                # Not tarfile's own decompression: it would read as much as a header declares.
                bounded = cast(IO[bytes], _Bounded(cast(IO[bytes], stream)))
                with tarfile.open(fileobj=bounded, mode="r:") as tar:
                    yield _Tar(tar)
    except (tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, gzip.BadGzipFile) as error:
        raise _damaged(path, error) from None
    except (ValueError, NotImplementedError, OverflowError, RuntimeError) as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise SencaError(f"{path}: cannot be read or unpacked ({error}); check disk and rights") from None
    except Exception as error:
        if type(error).__module__ != "zlib":  # zlib.error is no subclass of anything above
            raise
        raise _damaged(path, error) from None


def check(path: Path, archive: Archive, max_bytes: int) -> dict[str, Member]:
    """Its entries by name; raises SencaError for what no honest archive holds.

    That is: absolute names, '..', names twice, more than MAX_MEMBERS entries, more than `max_bytes` in all.
    """
    found: dict[str, Member] = {}
    folded: set[str] = set()
    total = 0
    for member in archive.members():
        name = member.name
        fault = _name_fault(name)
        if fault is None and not member.folder and name.casefold() in folded:
            fault = "is there twice"
        if fault:
            raise SencaError(f"{path}: entry {name!r:.120} {fault}; not unpacked; get the archive again")
        total += max(member.size, 0)
        if total > max_bytes or member.size < 0:
            raise SencaError(
                f"{path}: declares more than {max_bytes} bytes; expected at most that; not unpacked"
            )
        if len(found) >= MAX_MEMBERS:
            raise SencaError(f"{path}: more than {MAX_MEMBERS} entries; not unpacked; get the archive again")
        if not member.folder:
            folded.add(name.casefold())
        found[name] = member
    return found


def check_chosen(path: Path, members: Mapping[str, Member], chosen: Mapping[str, str]) -> None:
    """Raise SencaError if an entry to unpack is no file, or two would become one, or none is there."""
    if not chosen:
        some = ", ".join(list(members)[:3]) or "nothing"
        raise SencaError(f"{path}: none of the cohort's files in it, but {some}; get the right archive")
    for name in chosen:
        if not members[name].plain:
            raise SencaError(f"{path}: entry {name!r:.120} is a link, folder or device; expected a file")
    targets = [target.casefold() for target in chosen.values()]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice:
        raise SencaError(f"{path}: two entries would become {twice}; expected one; get the archive again")


def _name_fault(name: str) -> str | None:
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        return "has an absolute name"
    if ".." in re.split(r"[/\\]", name):
        return "leads out of the folder"
    if not name or any(ord(sign) < 32 for sign in name) or len(name) > 1000:
        return "has a name that no file may have"
    return None


def _damaged(path: Path, error: Exception) -> SencaError:
    return SencaError(f"{path}: damaged or no archive ({error or type(error).__name__}); get it again")


class _Bounded:
    """A stream that gives no more at once than any header needs."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


class _Tar:
    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar

    def members(self) -> Iterator[Member]:
        for info in self._tar:
            yield Member(info.name, info.size, info.isreg() and not info.issparse(), info.isdir())

    def open(self, name: str) -> IO[bytes]:
        info = tarfile.data_filter(self._tar.getmember(name), "/nowhere")  # a second pair of eyes
        stream = self._tar.extractfile(info)
        if stream is None:
            raise tarfile.ReadError(f"{name} is no file")
        return stream


class _Zip:
    def __init__(self, packed: zipfile.ZipFile) -> None:
        self._zip = packed

    def members(self) -> Iterator[Member]:
        for info in self._zip.infolist():
            mode = info.external_attr >> 16
            plain = not info.is_dir() and stat.S_IFMT(mode) in (0, stat.S_IFREG)
            yield Member(info.filename, info.file_size, plain, info.is_dir())

    def open(self, name: str) -> IO[bytes]:
        return self._zip.open(name)

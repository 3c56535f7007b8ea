"""One process runs a study at a time: a lock that the system lets go when that process dies."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from senca_ray import keys
from senca_ray.errors import SencaError

_PATIENCE = 0.5
"""Seconds to try for: someone who only looks (`running`) has the lock for a moment, too."""


@dataclass(frozen=True)
class Run:
    """The process that runs a study now, as it wrote itself into the lock."""

    pid: int
    host: str
    since: float
    """Unix time at which it took the lock."""
    journal_bytes: int
    """Size of the journal then: the rows after it are this run's."""

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.pid else "a process that has just started"


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of the study in `folder`, which exists, as long as the block runs.

    Raises SencaError that says who holds it, or why it cannot be held there at all. Children of this process
    do not inherit it: a driver that is killed leaves its study free even while workers of it still live.
    """
    path = folder / keys.LOCK_FILE
    with _taken(path) as file:
        try:
            yield
        finally:
            # Leaves the folder as it was, where nothing came of it.
            if is_at(file, path):
                path.unlink()


def holder(folder: Path) -> str | None:
    """Who runs the study in `folder` now ('process 1234 on HOST'); None when nobody does."""
    run = running(folder)
    return str(run) if run else None


def running(folder: Path) -> Run | None:
    """The run that holds the lock of `folder` now; None when there is none. Waits for nothing."""
    try:
        file = (folder / keys.LOCK_FILE).open("rb")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SencaError(
            f"{folder}: who runs it cannot be told ({error.strerror}); ask its owner for leave to read it"
        ) from None
    with file:
        try:
            # Shared, so that two who look at once do not take each other for the one who runs it.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read(file)
        except OSError:
            return None  # no locks on this disk, so `held` let nobody run there
    return None


def _taken(path: Path) -> BinaryIO:
    """Open the lock file and lock it; closing it lets go."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            file = path.open("a+b")
        except OSError as error:
            raise SencaError(
                f"{path}: cannot be written ({error.strerror}); choose a folder that you may write to"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # A lock on a file that somebody has removed meanwhile keeps nobody out.
            if is_at(file, path):
                _write(file, path.with_name(keys.JOURNAL_FILE))
                return file
        except BlockingIOError:
            if time.monotonic() > deadline:
                who = _read(file)
                file.close()
                raise SencaError(f"{path.parent}: is being run by {who}; wait for it or stop it") from None
        except OSError as error:
            file.close()
            raise SencaError(
                f"{path}: cannot be locked ({error.strerror}), so two runs could spoil each other's results "
                "there; choose a folder on another disk"
            ) from None
        file.close()
        time.sleep(0.02)


def is_at(file: BinaryIO, path: Path) -> bool:
    """Whether the open file is still the one at `path`; another may have been made there since."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _write(file: BinaryIO, journal: Path) -> None:
    size = journal.stat().st_size if journal.exists() else 0
    run = Run(os.getpid(), socket.gethostname(), time.time(), size)
    file.truncate(0)
    file.write(json.dumps(dataclasses.asdict(run)).encode())
    file.flush()


def _read(file: BinaryIO) -> Run:
    file.seek(0)
    try:
        return Run(**json.loads(file.read()))
    except (ValueError, TypeError):
        # Between taking the lock and signing it lies a moment.
        return Run(0, "", 0.0, 0)

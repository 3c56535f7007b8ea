"""Copies of far files on this machine: bounded, shared by its processes, the least recently used go first.

near/NAME            a copy, a folder, complete
near/.NAME.lock      held while it is read (shared), made or removed (alone); tells its size and last use
near/.NAME.partial   a copy in the making, or one that is being removed
near/.lock           held while room is made
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from senca_ray.data.location import in_words
from senca_ray.errors import SencaError
from senca_ray.files import cache
from senca_ray.lock import is_at

FOLDER = "near"
"""Folder of the cache that holds the copies."""
BOUND = "SENCA_CACHE_GB"
"""Environment variable: how large all copies together may be."""
_DEFAULT_GB = 20.0
_PATIENCE, _PAUSE = 1800.0, 0.2
"""Seconds to wait for room while all copies are in use, and between two looks."""


@contextmanager
def held(name: str, size: Callable[[], int], fill: Callable[[Path], None]) -> Iterator[Path]:
    """The copy called `name`, which nobody removes as long as the block runs.

    Where there is none yet, `fill` fills a folder with the `size` bytes; other processes that want it wait.
    Raises SencaError when there is no room for it or the cache cannot be written.
    """
    folder = cache() / FOLDER
    copy, lock = folder / name, folder / f".{name}.lock"
    with in_words(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        with locked(lock, fcntl.LOCK_SH) as file:
            if copy.exists():
                now = time.time_ns()  # finer than the clock of the disk
                os.utime(file.fileno(), ns=(now, now))
                yield copy
                return
        with locked(lock, fcntl.LOCK_EX) as file:
            if not copy.exists():
                _make(copy, file, size(), fill)


def _make(copy: Path, lock: BinaryIO, size: int, fill: Callable[[Path], None]) -> None:
    partial = _partial(copy)
    _reserve(copy, lock, size)
    try:
        fill(partial)
        with in_words(str(copy)):
            partial.rename(copy)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def discard(copy: Path) -> None:
    """Remove a copy as soon as nobody reads it."""
    _remove(copy, fcntl.LOCK_EX)


def remove(copy: Path) -> None:
    """Remove a copy that nobody reads; raises SencaError when somebody does."""
    if not _remove(copy, fcntl.LOCK_EX | fcntl.LOCK_NB):
        raise SencaError(f"{copy}: is being read")


def bound() -> int:
    """Bytes that all copies may take together; raises SencaError for a setting that is no size."""
    text = os.environ.get(BOUND, "").strip()
    try:
        gigabytes = float(text or _DEFAULT_GB)
        if not 0 < gigabytes < float("inf"):
            raise ValueError
    except ValueError:
        raise SencaError(f"{BOUND}={text!r} found; expected gigabytes, for example {BOUND}=50") from None
    return int(gigabytes * 1e9)


def check_fits(size: int, what: str) -> None:
    """Raise SencaError for what needs more room than all copies may take together."""
    if size > bound():
        raise SencaError(
            f"{what}: {size / 1e9:.2f} GB at once, and the cache {cache()} may hold copies of "
            f"{bound() / 1e9:.2f} GB; set {BOUND} higher"
        )


def _reserve(copy: Path, lock: BinaryIO, size: int) -> None:
    """Make room for a copy and begin it: a file in the making counts with the size that it will have."""
    check_fits(size, copy.name)
    until = time.monotonic() + _PATIENCE
    while True:
        with locked(copy.parent / ".lock", fcntl.LOCK_EX):
            others = sorted(_others(copy))
            used = sum(taken for _, _, taken in others)
            for _, other, taken in others:
                if used + size <= bound():
                    break
                if _remove(other, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    used -= taken
            if used + size <= bound():
                with in_words(str(copy)):
                    lock.truncate(0)
                    lock.write(str(size).encode())
                    lock.flush()
                    shutil.rmtree(_partial(copy), ignore_errors=True)
                    _partial(copy).mkdir()
                return
        if time.monotonic() > until:
            raise SencaError(
                f"{copy.name}: no room for it within {_PATIENCE / 60:.0f} minutes: copies of "
                f"{used / 1e9:.2f} GB are in use, {bound() / 1e9:.2f} GB allowed; "
                f"set {BOUND} higher, or run fewer side by side"
            )
        time.sleep(_PAUSE)


def _others(copy: Path) -> Iterator[tuple[int, Path, int]]:
    """(Last use, copy, bytes) of every other copy, those in the making and what killed ones left included."""
    for lock in copy.parent.glob(".*.lock"):
        other = lock.with_name(lock.name[1 : -len(".lock")])
        if other != copy and (other.exists() or _partial(other).exists()):
            try:
                yield lock.stat().st_mtime_ns, other, int(lock.read_bytes() or 0)
            except FileNotFoundError:  # discarded meanwhile
                continue


def _remove(copy: Path, how: int) -> bool:
    """Remove a copy and what belongs to it; False when it is in use and that is not waited for."""
    lock, partial = copy.with_name(f".{copy.name}.lock"), _partial(copy)
    try:
        with locked(lock, how):
            shutil.rmtree(partial, ignore_errors=True)
            if copy.exists():
                # Renamed first: what is half removed would be taken for whole.
                shutil.rmtree(copy.rename(partial))
            lock.unlink()
    except BlockingIOError:
        return False
    return True


def _partial(copy: Path) -> Path:
    return copy.with_name(f".{copy.name}.partial")


@contextmanager
def locked(path: Path, how: int) -> Iterator[BinaryIO]:
    """Hold a lock file, made where it is missing, as long as the block runs; raises SencaError.

    BlockingIOError where `how` says not to wait.
    """
    while True:
        with in_words(str(path)):
            file = path.open("a+b")
        with file:
            fcntl.flock(file, how)
            # A lock on a file that somebody has removed meanwhile keeps nobody out.
            if is_at(file, path):
                yield file
                return

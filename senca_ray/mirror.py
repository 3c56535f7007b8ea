"""A study that lives at an address: worked on in a folder of this machine, which is mirrored while it runs.

    ADDRESS/journal/000000000000.jsonl, ...   the journal in pieces, each named by the place of its first byte
    ADDRESS/checkpoints/...                   of long fits, put there by the trials
    ADDRESS/lease.json                        who runs the study now
    ADDRESS/...                               every other file of the study's folder, as it is there

A machine that is lost takes with it at most the rows of the last seconds; their trials run again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from senca_ray import keys, lease
from senca_ray.data.location import (
    StorageAway,
    connect,
    delete,
    download,
    in_words,
    list_files,
    patiently,
    read_bytes,
    upload,
    write_bytes,
    wrong_key,
)
from senca_ray.errors import SencaError
from senca_ray.files import cache, write_content

_log = logging.getLogger(__name__)

WORKING = "studies"
"""Folder of the cache where studies at addresses are worked on."""
JOURNAL_FOLDER = "journal"
_OWN = (f"{JOURNAL_FOLDER}/", f"{keys.CHECKPOINT_FOLDER}/")
"""Folders at the address that are no copies of the study's folder."""
_NOT_MIRRORED = (keys.JOURNAL_FILE, keys.CHECKPOINT_FOLDER, "tune")

Told = Callable[[str], None]
Stamp = tuple[int, int]
"""Size and time of a file."""


def working_folder(address: str) -> Path:
    """Where a study at an address is worked on, on this machine."""
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    return cache() / WORKING / f"{address.rpartition('/')[2]}-{digest}"


@contextmanager
def mirrored(address: str, folder: Path, told: Told) -> Iterator[Callable[[], None]]:
    """Hold the study at `address`: brought to `folder` before the block, mirrored while it runs.

    Gives a function that raises TakenOver once another run has the study. The folder's last state is there
    when the block has ended, also by an error. Raises SencaError where somebody else runs the study, and
    where the storage refuses at the beginning; later it is waited for.
    """
    mine = lease.take_lease(address, told)
    try:
        mirror = _Mirror(address, folder, mine, *bring(address, folder))
    except BaseException:
        with contextlib.suppress(SencaError):
            lease.give_back(address)
        raise
    mirror.start()
    try:
        yield mirror.check
    finally:
        mirror.over.set()
        mirror.join()
        mirror.finish(told)


def bring(address: str, folder: Path) -> tuple[int, set[str]]:
    """Bring a study to its working folder; returns how many bytes of the journal came, and which files.

    A folder that holds all that the address does, and rows that had not reached it, stays as it is.
    """
    pieces, files = _listed(address)
    journal = b"".join(_pieces(address, pieces))
    here = folder / keys.JOURNAL_FILE
    if here.exists() and here.read_bytes().startswith(journal):
        return len(journal), set()
    known = folder / keys.STUDY_FILE
    if not files and not journal and not known.exists():
        return 0, set()
    for path in folder.iterdir():
        if path.name != keys.LOCK_FILE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    _fetch(address, folder, files)
    write_content(here, journal)
    return len(journal), set(files)


def pull(address: str, folder: Path) -> int:
    """Copy the study at an address, as far as it is, to a folder; returns how many files came.

    What is there already and has not changed is not copied again. Raises SencaError where the address holds
    no study, or the folder something else.
    """
    content = check_study(address)
    pieces, files = _listed(address)
    own = folder / keys.STUDY_FILE
    if (own.exists() and own.read_bytes() != content) or (
        not own.exists() and folder.exists() and any(folder.iterdir())
    ):
        raise SencaError(f"{folder}: holds something else than the study at {address}; choose another --out")
    new = {name: info for name, info in files.items() if _stamp(folder / name) != (info.size, info.mtime_ns)}
    _fetch(address, folder, new)
    journal = folder / keys.JOURNAL_FILE
    last = max((info.mtime_ns or 0 for info in pieces.values()), default=0)
    stamp = sum(info.size for info in pieces.values()), last
    if pieces and stamp != _stamp(journal):
        content = b"".join(_pieces(address, pieces))
        write_content(journal, content)
        os.utime(journal, ns=(last, last))
        return len(new) + 1
    return len(new)


def check_study(address: str) -> bytes:
    """The description of the study at an address; raises SencaError where there is none."""
    content = read_bytes(f"{address.rstrip('/')}/{keys.STUDY_FILE}")
    if content is None:
        raise SencaError(f"{address}: no study there; expected an address that was an experiment's --out")
    return content


def _listed(address: str) -> tuple[dict[str, fs.FileInfo], dict[str, fs.FileInfo]]:
    """Pieces of the journal, and the copies of other files, at an address; raises SencaError."""
    found = list_files(address)
    if wrong := next((wrong for name in found if (wrong := wrong_key(name))), ""):
        raise SencaError(f"{address}: {wrong}; expected a study as it was written")
    pieces = {name: info for name, info in found.items() if name.startswith(_OWN[0])}
    files = {n: info for n, info in found.items() if not n.startswith(_OWN) and n != keys.LEASE_FILE}
    return pieces, files


def _pieces(address: str, names: Mapping[str, fs.FileInfo]) -> Iterator[bytes]:
    """The journal's pieces in order; raises SencaError when one is missing."""
    with tempfile.TemporaryDirectory() as place:
        to = {name: Path(place) / str(number) for number, name in enumerate(sorted(names))}
        download(address, [(name, path, names[name].size) for name, path in to.items()])
        begin = 0
        for name, path in to.items():
            if int(Path(name).stem) != begin:
                raise SencaError(f"{address}: the journal lacks what begins at byte {begin}; restore it")
            content = path.read_bytes()
            begin += len(content)
            yield content


def _fetch(address: str, folder: Path, files: Mapping[str, fs.FileInfo]) -> None:
    """Bring files into the folder, each whole or not at all, with the times that they have at the address."""
    with in_words(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".pull-", dir=folder))
    try:
        download(address, [(name, place / name, info.size) for name, info in files.items()])
        for name, info in files.items():
            with in_words(str(folder / name)):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                os.utime(place / name, ns=(info.mtime_ns or 0, info.mtime_ns or 0))
                (place / name).replace(folder / name)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


class _Mirror(threading.Thread):
    """Puts what is new in a study's folder at its address, every few seconds."""

    def __init__(self, address: str, folder: Path, mine: lease.Lease, journal: int, names: set[str]) -> None:
        """`journal`: bytes of it that the address has; `names`: other files that came from there."""
        super().__init__(name="mirror", daemon=True)
        self._address, self._folder, self._lease, self._journal = address, folder, mine, journal
        self._filesystem, self._path = connect(address)
        self._sent: dict[str, Stamp | None] = dict.fromkeys(names)
        self._lost: SencaError | None = None
        self._away = False
        self.over = threading.Event()

    def check(self) -> None:
        """Raise TakenOver once another run has the study."""
        if self._lost:
            raise self._lost

    def run(self) -> None:
        """Mirror until the run is over; a storage that is away is waited for."""
        while self._lost is None and not self.over.wait(lease.BEAT):
            try:
                self._lease = lease.renew(self._address, self._lease)
                self.put()
            except lease.TakenOver as error:
                self._lost = error
            except SencaError as error:
                if not self._away:
                    text = "%s cannot be written; the study goes on, and what is new follows later (%s)"
                    _log.warning(text, self._address, error)
                self._away = True
            else:
                self._away = False

    def finish(self, told: Told) -> None:
        """Put what is left there and end the lease; raises SencaError when the storage stays away."""
        if self._lost:
            return

        def waiting(error: StorageAway) -> None:
            told(f"waiting for the storage: {error}")

        def all_there() -> None:
            self.put()
            lease.give_back(self._address)

        try:
            patiently(all_there, waiting)
        except SencaError as error:
            raise SencaError(
                f"{error}; what is new lies in {self._folder}: `senca resume {self._address}` on this "
                "machine puts it there"
            ) from None

    def put(self) -> None:
        """Put everything new at the address.

        The journal last, as far as it was at first: whatever belongs to a row is there before the row.
        """
        journal = self._folder / keys.JOURNAL_FILE
        end = journal.stat().st_size if journal.exists() else 0
        present: dict[str, Stamp | None] = {}
        for path, name in self._files():
            with contextlib.suppress(FileNotFoundError):  # being replaced
                present[name] = _stamp(path)
                if present[name] != self._sent.get(name):
                    self._put_file(path, name)
                    self._sent[name] = present[name]
        if gone := [name for name in self._sent if name not in present]:
            delete(self._address, gone)
            for name in gone:
                del self._sent[name]
        self._put_rows(journal, end)

    def _files(self) -> Iterator[tuple[Path, str]]:
        for path in sorted(self._folder.rglob("*")):
            parts = path.relative_to(self._folder).parts
            # What is hidden is in the making, or this machine's own affair.
            hidden = any(part.startswith(".") for part in parts)
            if not hidden and parts[0] not in _NOT_MIRRORED and path.is_file() and not path.is_symlink():
                yield path, "/".join(parts)

    def _put_file(self, path: Path, name: str) -> None:
        with in_words(f"{self._address}/{name}"), tempfile.TemporaryDirectory() as place:
            if path.name == keys.OPTUNA_FILE:
                # Somebody may be writing it: its own copying gives a whole one.
                copy = Path(place) / path.name
                connected = (contextlib.closing(sqlite3.connect(file)) for file in (path, copy))
                with next(connected) as source, next(connected) as target:
                    source.backup(target)
                path = copy
            upload(self._filesystem, path, f"{self._path}/{name}")

    def _put_rows(self, journal: Path, end: int) -> None:
        if end <= self._journal:
            return
        with journal.open("rb") as file:
            file.seek(self._journal)
            new = file.read(end - self._journal)
        whole = new[: new.rfind(b"\n") + 1]
        if whole:
            write_bytes(f"{self._address}/{JOURNAL_FOLDER}/{self._journal:012d}.jsonl", whole)
            self._journal += len(whole)

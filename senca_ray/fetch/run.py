"""A public cohort into a folder: what is missing is downloaded, checked, and laid out as its reader wants."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from senca_ray.errors import Interrupted, SencaError
from senca_ray.fetch import homes
from senca_ray.fetch.catalogue import Archive, Cohort
from senca_ray.fetch.checksums import SHA256, checksum
from senca_ray.fetch.client import Client, DownloadError
from senca_ray.fetch.download import Remote, Unfinished, download, room
from senca_ray.fetch.record import NAME, Entry, Record, load, today
from senca_ray.fetch.unpack import TEMPORARY, foreign, unpack

_LOCK = ".fetch.lock"
_LISTED = "listed files"
"""The part of fetch.json for a cohort that comes file by file."""

Progress = Callable[[str, int, int | None], None]
"""Takes what is under way, and how many bytes of how many are done."""


@dataclass
class Fetched:
    """What `fetch` did."""

    downloaded: int = 0
    """Files, archives counted as one."""
    files: int = 0
    """Files of the cohort that are there now."""
    size: int = 0
    """Their bytes."""
    notes: list[str] = field(default_factory=list)
    """What the user should know, in words."""


def fetch(cohort: Cohort, folder: Path, client: Client, progress: Progress) -> Fetched:
    """Bring a cohort to `folder`, or what is missing or damaged of it there.

    Archives that lie in `folder` already are unpacked instead of downloaded. Raises Interrupted when stopped
    (what was downloaded is kept), SencaError with what to do by hand where a home cannot be reached.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            for left in folder.glob(f"{TEMPORARY}*"):
                shutil.rmtree(left)  # of a fetch that was killed while it unpacked
            record = load(cohort, folder)
            done = Fetched()
            try:
                if cohort.tree is not None:
                    _listed(cohort, folder, client, record, done, progress)
                else:
                    _archives(cohort, folder, client, record, done, progress)
            except DownloadError as error:
                raise SencaError(f"{error}\n{by_hand(cohort, folder, record)}") from None
            done.files = len(record.files)
            done.size = sum(entry.size for entry in record.files.values())
            return done
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; what is downloaded is kept in {folder}: the same command goes on from there"
        ) from None
    except OSError as error:
        raise SencaError(f"{folder}: cannot be written ({error}); allow writing or free space") from None


def by_hand(cohort: Cohort, folder: Path, record: Record) -> str:
    """What to download by hand and where to put it, so that `fetch` can go on without a network."""
    lines = ["By hand, on a machine with a network:"]
    for archive in cohort.archives:
        if not record.intact(archive.name) and not (folder / archive.name).is_file():
            lines += [f"  {archive.address}", f"    ({archive.size}) into {folder / archive.name}"]
    lines.append(f"Then `senca fetch {cohort.name} {folder}` checks and unpacks what lies there.")
    return "\n".join(lines)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Raise SencaError where another process fetches into `folder`: two would mix their bytes."""
    with (folder / _LOCK).open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SencaError(f"{folder}: another senca fetch is at work there; wait for it to end") from None
        yield


def _archives(
    cohort: Cohort, folder: Path, client: Client, record: Record, done: Fetched, progress: Progress
) -> None:
    """Download the archives that are missing, then unpack all whose files are not there as they should be."""
    wanted = [archive for archive in cohort.archives if not record.intact(archive.name)]
    if not wanted:
        return
    for archive in wanted:
        if archive.name in record.parts:
            _tell_damage(record.damaged(archive.name), done)
    remotes = {archive.name: Remote(archive.address) for archive in wanted}
    try:
        remotes = homes.archives(client, cohort)
    except DownloadError as error:
        if not all((folder / archive.name).is_file() for archive in wanted):
            raise
        done.notes.append(f"not checked against the published checksums: {error}")
    missing = [archive for archive in wanted if not (folder / archive.name).is_file()]
    room(folder, sum(remotes[archive.name].size or 0 for archive in missing))
    for archive in wanted:
        path, remote = folder / archive.name, remotes[archive.name]
        if archive not in missing:
            _unpack(cohort, archive, remote, record, done, progress)
            done.notes.append(f"{archive.name} is unpacked and may be removed")
            continue
        before = record.parts.get(archive.name)
        _download(client, remote, archive.name, cohort.limit, record, done, progress)
        _unpack(cohort, archive, remote, record, done, progress)
        path.unlink()
        if before and before.checksum != record.parts[archive.name].checksum:
            done.notes.append(f"{archive.name} is another file than at the first download ({before.date})")


def _unpack(
    cohort: Cohort, archive: Archive, remote: Remote, record: Record, done: Fetched, progress: Progress
) -> None:
    """Check an archive that lies in the folder, unpack it and record what came out."""
    folder = record.path.parent
    path = folder / archive.name
    found = checksum(path, remote.checksum.kind if remote.checksum else SHA256)
    if remote.checksum and found != remote.checksum:
        raise SencaError(
            f"{path}: checksum {found} found; expected {remote.checksum}, as its home publishes it; "
            "remove the file and run the same again"
        )
    unpacked = unpack(
        path,
        folder,
        cohort.choose,
        cohort.unpacked_limit,
        record.files.keys(),
        lambda written, total: progress(f"unpacking {archive.name}", written, total),
    )
    for name in [n for n, e in record.files.items() if e.part == archive.name and n not in unpacked]:
        del record.files[name]
    for name, (size, own) in unpacked.items():
        record.files[name] = Entry(archive.address, size, own, today(), False, archive.name)
    published = remote.checksum is not None
    size = path.stat().st_size
    record.parts[archive.name] = Entry(archive.address, size, found, today(), published, archive.name)
    record.save()
    if not published:
        done.notes.append(
            f"{archive.name} could not be checked against a published checksum; trusted as first seen: "
            f"{found} (kept in {NAME})"
        )


def _listed(
    cohort: Cohort, folder: Path, client: Client, record: Record, done: Fetched, progress: Progress
) -> None:
    """Download the files that a repository lists; or unpack its zip where that lies in the folder."""
    archive = cohort.archives[0]
    if any(record.intact(part) for part in (_LISTED, archive.name)):
        return
    _tell_damage([name for part in record.parts for name in record.damaged(part)], done)
    if (folder / archive.name).is_file():
        _unpack(cohort, archive, Remote(archive.address), record, done, progress)
        done.notes.append(f"{archive.name} is unpacked and may be removed")
        _keep_only(archive.name, record)
        return
    listing = homes.files(client, cohort)
    remotes = listing.files
    total = sum(remote.size or 0 for remote in remotes.values())
    if total > cohort.limit:
        raise DownloadError(f"{cohort.tree}: lists {total} bytes; expected at most {cohort.limit}")
    missing = [name for name, remote in remotes.items() if not _there(folder / name, remote)]
    for name in missing:
        if (folder / name).exists() and name not in record.files:
            raise SencaError(foreign(folder / name))
    behind = total - sum(remotes[name].size or 0 for name in missing)
    room(folder, total - behind)
    for name, remote in remotes.items():
        if name in missing:
            whole = _Share(name, behind, total, progress)
            _download(client, remote, name, cohort.limit, record, done, whole)
            behind += remote.size or 0
        assert remote.checksum is not None
        old = record.files.get(name)
        date = old.date if old and old.checksum == remote.checksum and name not in missing else today()
        record.files[name] = Entry(remote.address, remote.size or 0, remote.checksum, date, True, _LISTED)
    record.parts[_LISTED] = Entry(cohort.tree or "", total, listing.state, today(), True, _LISTED)
    _keep_only(_LISTED, record)
    if listing.left_out:
        done.notes.append(f"left out, as no section with counts goes with it: {_some(listing.left_out)}")


@dataclass(frozen=True)
class _Share:
    """Progress of one file of many, told as that of all."""

    name: str
    behind: int
    total: int
    tell: Progress

    def __call__(self, _: str, there: int, __: int | None) -> None:
        self.tell(self.name, self.behind + there, self.total)


def _keep_only(part: str, record: Record) -> None:
    record.parts = {part: record.parts[part]}
    record.files = {name: entry for name, entry in record.files.items() if entry.part == part}
    record.save()


def _download(
    client: Client,
    remote: Remote,
    name: str,
    limit: int,
    record: Record,
    done: Fetched,
    progress: Progress,
) -> None:
    """Bring one file to its place; what a .part is the beginning of is kept in fetch.json meanwhile."""
    path = record.path.parent / name

    def remember(validator: str | None) -> None:
        record.unfinished.pop(name, None)
        if validator is not None:
            record.unfinished[name] = validator
        record.save()

    unfinished = Unfinished(record.unfinished.get(name), remember)
    download(client, remote, path, limit, unfinished, lambda there, size: progress(name, there, size))
    done.downloaded += 1
    remember(None)


def _there(path: Path, remote: Remote) -> bool:
    """Whether a file is there with the bytes that its home lists."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != remote.size:
        return False
    assert remote.checksum is not None
    return checksum(path, remote.checksum.kind) == remote.checksum


def _tell_damage(names: list[str], done: Fetched) -> None:
    if names:
        done.notes.append(f"missing or changed since the last fetch, and replaced: {_some(names)}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

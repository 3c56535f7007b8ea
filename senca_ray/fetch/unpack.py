"""Unpacking an archive into a cohort's folder: all of it or nothing."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, cast

from senca_ray.errors import SencaError
from senca_ray.fetch import archives
from senca_ray.fetch.catalogue import Choice
from senca_ray.fetch.checksums import SHA256, Checksum, checksum
from senca_ray.fetch.download import Progress, room

TEMPORARY = ".fetch-partial-"
"""How the folder begins in which is unpacked what is not whole yet."""
_CHUNK = 1 << 20


def unpack(
    archive: Path, folder: Path, choose: Choice, max_bytes: int, ours: Collection[str], progress: Progress
) -> dict[str, tuple[int, Checksum]]:
    """Unpack what `choose` wants into `folder`; returns size and sha256 of every file by its path there.

    Files of `ours` are replaced; raises SencaError if any other that is there differs, for whatever is wrong
    with the archive, and for a full disk: then nothing in `folder` has changed.
    """
    with archives.opened(archive) as packed:
        members = archives.check(archive, packed, max_bytes)
        chosen = choose(name for name, member in members.items() if not member.folder)
        archives.check_chosen(archive, members, chosen)
        total = sum(members[name].size for name in chosen)
        room(folder, total)
        with tempfile.TemporaryDirectory(prefix=TEMPORARY, dir=folder) as made:
            temporary = Path(made)
            left = max_bytes
            written = 0
            for name, target in chosen.items():
                path = temporary / target
                path.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(name) as stream, path.open("xb") as file:
                    if name.endswith(".gz") and not target.endswith(".gz"):
                        with gzip.open(stream) as unzipped:
                            left -= _copy(archive, cast(IO[bytes], unzipped), file, left)
                    else:
                        left -= _copy(archive, stream, file, left)
                written += members[name].size
                progress(written, total)
            result = {
                target: ((temporary / target).stat().st_size, checksum(temporary / target, SHA256))
                for target in chosen.values()
            }
            _refuse_to_replace(folder, result, ours)
            _move(temporary, folder)
    return result


def _copy(archive: Path, source: IO[bytes], target: IO[bytes], limit: int) -> int:
    """Copy at most `limit` bytes, whatever the archive declared; returns how many they were."""
    done = 0
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        if done > limit:
            raise SencaError(f"{archive}: unpacks to more than {limit} bytes; not unpacked")
        target.write(chunk)
    return done


def _refuse_to_replace(
    folder: Path, unpacked: dict[str, tuple[int, Checksum]], ours: Collection[str]
) -> None:
    for name, (size, expected) in unpacked.items():
        path = folder / name
        if name in ours or not (path.exists() or path.is_symlink()):
            continue
        if not path.is_file() or path.stat().st_size != size or checksum(path, SHA256) != expected:
            raise SencaError(foreign(path))


def foreign(path: Path) -> str:
    """What to say of a file that is in the way."""
    return f"{path}: is there already and differs; expected a folder without it; move it, or name another one"


def _move(source: Path, target: Path) -> None:
    """Move all below `source` into `target`, whole folders at once where they are new."""
    for path in sorted(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _move(path, place)
        else:
            path.replace(place)

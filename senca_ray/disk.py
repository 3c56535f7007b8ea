"""What takes how much disk, in the cache and in a folder of studies, and its removal.

Only what `survey` finds can be removed: folders and files with the names that this package gives them.
Symbolic links are neither followed nor removed.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from senca_ray import keys
from senca_ray.analysis.progress import FINISHED, RUNNING, find_studies, progress
from senca_ray.data import copies, remote
from senca_ray.errors import SencaError
from senca_ray.files import write_text
from senca_ray.lock import held, holder
from senca_ray.mirror import WORKING

UNFINISHED = "left by a killed command"
LEFTOVERS = "leftovers of studies"
SIMULATED = "simulated cohorts"
COPIES = "copies of far sections"
WORKED_ON = "working folders of studies at addresses"
SHARDS = "prepared sections"
PACKAGES = "environments of methods"
STUDIES = "studies"
CATEGORIES = (UNFINISHED, LEFTOVERS, SIMULATED, COPIES, WORKED_ON, SHARDS, PACKAGES, STUDIES)
"""What an item is, the most dispensable first."""

_SHARD_STORE = "shards"
"""Folder of the cache where shards are kept."""
_PACKAGE_STORE = "methods"
"""Folder of the cache with the virtual environments of methods."""
_LEFTOVER_FOLDERS = ("tune", keys.CHECKPOINT_FOLDER)
_HIDDEN = (".*.partial", ".simulated-*.partial-*", ".*.tmp")
"""Names of what is not whole yet, or not removed yet."""
_STILL_WRITTEN = 3600
"""Seconds for which an unfinished file or folder may still be in the making, by a command that runs."""


@dataclass(frozen=True)
class Item:
    """A file or folder that can be removed as a whole."""

    path: Path
    category: str
    """One of CATEGORIES."""
    size: int
    """Bytes."""
    needed_by: tuple[str, ...] = ()
    """Unfinished studies that want it to go on."""
    kept: str = ""
    """Why it cannot be removed now; empty where it can."""


def survey(cache: Path, studies: Path) -> list[Item]:
    """Everything removable in the cache and in a folder of studies, either of which may be absent.

    Only the studies in `studies` are asked which shards they need.
    """
    found: list[Item] = []
    needed: dict[Path, list[str]] = {}
    in_use: dict[Path, str] = {}
    for study in filter(_ours, find_studies(studies) if studies.is_dir() else []):
        state, run_by = _state(study)
        found += _study_items(study, state, f"run by {run_by}" if run_by else "")
        if state != FINISHED:
            for shard in _shards(study):
                needed.setdefault(shard, []).append(study.name)
                if state == RUNNING:
                    in_use[shard] = f"{study.name} is running"
    found += [*_cache_items(cache, needed, in_use), *_unfinished(studies)]
    return sorted(found, key=lambda item: (CATEGORIES.index(item.category), item.path))


def remove(items: Collection[Item], cache: Path, studies: Path) -> tuple[int, list[str]]:
    """Remove items that `survey` found; returns the bytes freed and what was kept, with the reason.

    Looks again first: what has come into use meanwhile, or is not there any more, is kept.
    """
    now = {item.path: item for item in survey(cache, studies)}
    freed, kept = 0, []
    for item in items:
        current = now.get(item.path)
        if current is None:
            continue
        if current.kept or set(current.needed_by) - set(item.needed_by):
            reason = current.kept or f"{', '.join(current.needed_by)} needs it"
            kept.append(f"{item.path}: {reason}")
            continue
        size = _size(item.path)  # of a study with all that is in it
        try:
            _remove(current)
        except (SencaError, OSError) as error:
            kept.append(str(error))
        else:
            freed += size
    _forget_removed_shards(cache / _SHARD_STORE)
    return freed, kept


def _state(study: Path) -> tuple[str, str | None]:
    """State of a study and who runs it; one that cannot be read counts as unfinished."""
    try:
        found = progress(study)
    except SencaError:
        run_by = holder(study)
        return RUNNING if run_by else "unreadable", run_by
    return found.state, found.holder


def _shards(study: Path) -> set[Path]:
    """The local shards that a study reads; of any schema."""
    try:
        shards = json.loads((study / keys.STUDY_FILE).read_text(encoding="utf-8"))["shards"]
        return {Path(address).resolve() for address in shards.values() if "://" not in address}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _study_items(study: Path, state: str, kept: str) -> Iterator[Item]:
    """A study's own files as one item, and what only a study under way has any use for."""
    leftovers = [study / name for name in _LEFTOVER_FOLDERS]
    leftovers += [path for pattern in _HIDDEN for path in study.glob(pattern)]
    sizes = {path: _size(path) for path in leftovers if _ours(path)}
    for path, size in sizes.items():
        checkpoints = path.name == keys.CHECKPOINT_FOLDER and state != FINISHED
        # Without them the long fits that were under way start over.
        yield Item(path, LEFTOVERS, size, (study.name,) if checkpoints else (), kept)
    yield Item(study, STUDIES, _size(study) - sum(sizes.values()), kept=kept)


def _cache_items(cache: Path, needed: dict[Path, list[str]], in_use: dict[Path, str]) -> Iterator[Item]:
    store = cache / _SHARD_STORE
    near, views = cache / copies.FOLDER, cache / remote.VIEWS
    for folder in (cache, store, near):
        if folder.is_dir() and (folder == cache or not folder.is_symlink()):
            yield from _unfinished(folder)
    for path in filter(_ours, (cache / WORKING).glob("[!.]*")):
        run_by = holder(path)
        yield Item(path, WORKED_ON, _size(path), kept=f"run by {run_by}" if run_by else "")
    for path in filter(_ours, cache.glob("simulated-*")):
        yield Item(path, SIMULATED, _size(path))
    for folder in (near, views):
        for path in [] if folder.is_symlink() else filter(_ours, folder.glob("[!.]*")):
            kept = "may be in use: it changed within the hour" if folder == views and _young(path) else ""
            yield Item(path, COPIES, _size(path), kept=kept)
    packages = cache / _PACKAGE_STORE
    for path in [] if packages.is_symlink() else filter(_ours, packages.glob("[!.]*")):
        if path.is_dir():
            yield Item(path, PACKAGES, _size(path))
    for path in [] if store.is_symlink() else [p.parent for p in store.glob(f"*/{keys.SHARD_FILE}")]:
        if _ours(path) and not path.name.startswith("."):
            at = path.resolve()
            yield Item(path, SHARDS, _size(path), tuple(needed.get(at, ())), in_use.get(at, ""))


def _unfinished(folder: Path) -> Iterator[Item]:
    for path in filter(_ours, (path for pattern in _HIDDEN for path in folder.glob(pattern))):
        kept = "may be in the making: it changed within the hour" if _young(path) else ""
        yield Item(path, UNFINISHED, _size(path), kept=kept)


def _ours(path: Path) -> bool:
    return path.exists() and not path.is_symlink()


def _entries(path: Path) -> Iterator[os.stat_result]:
    """The path itself and all below it, links not followed; what vanishes meanwhile is passed over."""
    names = [path]
    if path.is_dir():
        names += [Path(at, n) for at, folders, files in os.walk(path) for n in (*folders, *files)]
    for name in names:
        try:
            yield name.lstat()
        except FileNotFoundError:
            continue


def _size(path: Path) -> int:
    return sum(entry.st_size for entry in _entries(path) if stat.S_ISREG(entry.st_mode))


def _young(path: Path) -> bool:
    return max((entry.st_mtime for entry in _entries(path)), default=0.0) > time.time() - _STILL_WRITTEN


def _remove(item: Item) -> None:
    study = {STUDIES: item.path, WORKED_ON: item.path, LEFTOVERS: item.path.parent}.get(item.category)
    if study is not None:
        # Nobody can start the study before what is removed is gone.
        with held(study):
            _delete(item.path)
    elif item.path.parent.name == copies.FOLDER and item.category == COPIES:
        copies.remove(item.path)
    else:
        _delete(item.path)


def _delete(path: Path) -> None:
    if path.is_dir():
        # Renamed first: a half removed shard or cohort would be taken for a whole one.
        hidden = path if path.name.startswith(".") else path.with_name(f".{path.name}.{os.getpid()}.partial")
        shutil.rmtree(path.rename(hidden))
    else:
        path.unlink()


def _forget_removed_shards(store: Path) -> None:
    """Take shards that are gone out of the store's manifest."""
    path = store / keys.MANIFEST_FILE
    if store.is_symlink() or not path.is_file():
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    there = {name: checksum for name, checksum in known.items() if (store / name).is_dir()}
    if there != known:
        write_text(path, json.dumps(there, indent=2, sort_keys=True))

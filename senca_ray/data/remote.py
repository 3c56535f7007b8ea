"""Raw cohorts in S3 or GCS: found by their names on one machine, brought by section to those that read.

    views/HASH/index.json   size and time of every remote file
    views/HASH/FOLDER/...   the same files with the same names, but empty; small texts as they are

A view is what readers look for sections in. Bytes travel only to the worker that reads a section, into the
bounded cache (`copies`).
"""

from __future__ import annotations

import bisect
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pyarrow import fs

from senca_ray.data import copies
from senca_ray.data.location import connect, download, in_words, list_files, wrong_key
from senca_ray.data.section import SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.files import cache, write_json

VIEWS = "views"
"""Folder of the cache that holds the views."""
_INDEX = "index.json"
_COHORT_FILES = (".yaml", ".yml", ".csv")
_TEXTS = (*_COHORT_FILES, ".json", ".zattrs", ".zgroup", ".zmetadata")
_TEXT_BYTES = 1_000_000
"""Files of these names and up to this size are brought at once: readers look into them for sections."""

Stamp = tuple[int, int]
"""Size in bytes and time of the last change in seconds (storages tell no more) of a remote file."""


@dataclass(frozen=True)
class FarFiles:
    """The remote files of one section, small enough to travel with it to a worker."""

    view: str
    """Folder of the view, as it is called in the section's paths."""
    uri: str
    """The remote folder that it stands for."""
    stamps: Mapping[str, Stamp]
    """By name relative to both."""


def local_view(uri: str) -> Path:
    """A local folder (or file) that looks like the remote one, made anew from what is there now.

    Raises ProblemsError naming every object that cannot be a local file, SencaError when nothing is there.
    """
    uri = uri.rstrip("/")
    base, only, found = _listed(uri)
    _check_names(found, base)
    stamps = {name: _stamp(info) for name, info in found.items()}
    place = cache() / VIEWS / hashlib.sha256(uri.encode()).hexdigest()[:16]
    view = place / base.rpartition("/")[2]
    with in_words(str(place)):
        view.mkdir(parents=True, exist_ok=True)
    with copies.locked(place / ".lock", fcntl.LOCK_EX), in_words(str(place)):
        _refresh(view, base, stamps, _index(place)["stamps"])
        write_json(place / _INDEX, {"uri": base, "stamps": stamps})
    return view / only if only else view


def _listed(uri: str) -> tuple[str, str, dict[str, fs.FileInfo]]:
    """(Remote folder, name of the one file in it that is meant or '', the files); raises SencaError."""
    if found := list_files(uri):
        return uri, "", found
    filesystem, path = connect(uri)
    with in_words(uri):
        info = filesystem.get_file_info(path)
    if info.type != fs.FileType.File:
        raise SencaError(f"{uri}: nothing there; name the folder that holds the cohort, or a cohort file")
    base, _, name = uri.rpartition("/")
    # What a cohort file lists lies beside it.
    return base, name, list_files(base) if name.endswith(_COHORT_FILES) else {name: info}


def _check_names(names: Mapping[str, Any], uri: str) -> None:
    problems = [Problem("-", uri, f"object {text}; rename it") for name in names if (text := wrong_key(name))]
    folders = {str(parent) for name in names for parent in PurePosixPath(name).parents}
    for name in sorted(folders & set(names)):
        problems.append(
            Problem("-", uri, f"object {name!r} is a file and a folder at once; rename one of them")
        )
    if problems:
        raise ProblemsError(problems, f"{len(names)} objects")


def _refresh(view: Path, uri: str, stamps: dict[str, Stamp], known: dict[str, Stamp]) -> None:
    for path in sorted(view.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.is_symlink() or path.relative_to(view).as_posix() not in stamps:
            path.unlink()
    texts = []
    for name, stamp in stamps.items():
        path = view / name
        if known.get(name) == stamp and path.exists():
            continue
        if name.endswith(_TEXTS) and stamp[0] <= _TEXT_BYTES:
            texts.append((name, path, stamp[0]))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
    download(uri, texts)


def _index(place: Path) -> dict[str, Any]:
    """The index of a view; empty where there is none yet."""
    path = place / _INDEX
    return _read_index(path, path.stat().st_mtime_ns) if path.exists() else {"uri": "", "stamps": {}}


@functools.lru_cache(maxsize=8)
def _read_index(path: Path, _written: int) -> dict[str, Any]:
    index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    index["stamps"] = {name: (size, time) for name, (size, time) in index["stamps"].items()}
    index["names"] = sorted(index["stamps"])
    return index


def _stamps(path: Path) -> tuple[Path, dict[str, Any], dict[str, Stamp]] | None:
    """(View, its index, stamps of the file or of all in the folder `path`); None for what is in no view."""
    views = cache() / VIEWS
    if not path.is_relative_to(views) or len(parts := path.relative_to(views).parts) < 2:
        return None
    index, view = _index(views / parts[0]), views / parts[0] / parts[1]
    name = "/".join(parts[2:])
    if name in index["stamps"]:
        return view, index, {name: index["stamps"][name]}
    names, within = index.get("names", []), f"{name}/" if name else ""
    inside = names[bisect.bisect_left(names, within) :] if within else names
    stamps = {}
    for other in inside:
        if not other.startswith(within):
            break
        stamps[other] = index["stamps"][other]
    return (view, index, stamps) if stamps else None


def fingerprint_of(path: Path) -> str | None:
    """Hex digest of a view's file or folder: of names, sizes and times of the remote files, not their bytes.

    None for what lies in no view: its bytes can be read.
    """
    found = _stamps(path)
    return hashlib.sha256(json.dumps(["remote", found[2]]).encode()).hexdigest() if found else None


def far_files(files: SectionFiles) -> FarFiles | None:
    """What a worker has to know to bring a section that was found in a view; None for one on disk."""
    found = [one for path in files.paths() if (one := _stamps(path))]
    if not found:
        return None
    view, index, _ = found[0]
    return FarFiles(str(view), index["uri"], {n: s for _, _, stamps in found for n, s in stamps.items()})


@contextmanager
def bring(
    files: SectionFiles, far: FarFiles | None, only: Iterable[Path] | None = None
) -> Iterator[SectionFiles]:
    """The section with its files on this machine as long as the block runs; one on disk is left as it is.

    `only`: of its paths these; left out, all. Names relative to `files.root` stay the same. Raises SencaError
    when a file cannot be read, has changed since it was listed, or does not fit into the cache.
    """
    if far is None:
        yield files
        return
    view, near = Path(far.view), cache() / copies.FOLDER
    paths = [p for p in (files.paths() if only is None else only) if p.is_relative_to(view)]
    # What is inside a folder that comes anyway does not come once more.
    paths = [p for p in dict.fromkeys(paths) if not any(other in p.parents for other in paths)]
    wanted = {path: _below(far.stamps, path.relative_to(view).as_posix()) for path in paths}
    sizes = {path: sum(size for size, _ in stamps.values()) for path, stamps in wanted.items()}
    copies.check_fits(sum(sizes.values()), files.sample)
    with in_words(str(near)):
        near.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=".brought-", suffix=".partial", dir=near))
    try:
        with ExitStack() as held:
            here = place / view.name
            # The largest last: whoever waits for room then holds little that others wait for.
            for path in sorted(paths, key=lambda p: sizes[p]):
                name = path.relative_to(view).as_posix()
                copy = held.enter_context(_copy(far.uri, name, wanted[path]))
                _link(copy, here, wanted[path])
            yield _moved(files, view, here)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _below(stamps: Mapping[str, Stamp], name: str) -> dict[str, Stamp]:
    """Stamps of the file `name`, or of all files in the folder."""
    return {n: s for n, s in stamps.items() if n == name or n.startswith(f"{name}/") or name == "."}


@contextmanager
def _copy(uri: str, name: str, stamps: dict[str, Stamp]) -> Iterator[Path]:
    """A copy of a file or folder, its files numbered: another section that names the same one shares it."""

    def fill(folder: Path) -> None:
        _check_unchanged(uri, name, stamps)
        download(uri, [(file, folder / str(n), s[0]) for n, (file, s) in enumerate(stamps.items())])

    digest = hashlib.sha256(json.dumps([uri, name, stamps]).encode()).hexdigest()
    called = f"raw-{PurePosixPath(name).name[:40]}-{digest[:16]}"
    with copies.held(called, lambda: sum(size for size, _ in stamps.values()), fill) as copy:
        yield copy


def _check_unchanged(uri: str, name: str, stamps: dict[str, Stamp]) -> None:
    if name in stamps:
        filesystem, path = connect(uri)
        with in_words(f"{uri}/{name}"):
            now = {name: filesystem.get_file_info(f"{path}/{name}")}
    else:
        now = {f"{name}/{inside}": info for inside, info in list_files(f"{uri}/{name}").items()}
    if {file: _stamp(info) for file, info in now.items()} != stamps:
        raise SencaError(f"{uri}/{name}: changed or removed since it was listed; run it again")


def _stamp(info: fs.FileInfo) -> Stamp:
    return info.size, (info.mtime_ns or 0) // 10**9


def _link(copy: Path, here: Path, stamps: dict[str, Stamp]) -> None:
    """Give the copied files their own names, as further links to the same bytes."""
    for number, name in enumerate(stamps):
        target = here / name
        with in_words(f"{target.parent} (a cache has to be on a disk that knows hard links)"):
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(copy / str(number), target)


def _moved(files: SectionFiles, view: Path, here: Path) -> SectionFiles:
    def moved(value: Any) -> Any:
        inside = isinstance(value, Path) and value.is_relative_to(view)
        return here / value.relative_to(view) if inside else value

    changes = {field.name: moved(getattr(files, field.name)) for field in dataclasses.fields(files)}
    changes["annotations"] = tuple((name, moved(path)) for name, path in files.annotations)
    changes["others"] = {name: moved(path) for name, path in files.others.items()}
    return dataclasses.replace(files, **changes)

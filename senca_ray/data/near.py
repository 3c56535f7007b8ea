"""Shards that lie far away are copied once to every machine that reads them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyarrow import fs

from senca_ray import keys
from senca_ray.data import copies
from senca_ray.data.location import connect, download, in_words, is_remote, read_bytes, wrong_key
from senca_ray.data.shards import damaged_files
from senca_ray.errors import SencaError

_TRIES = 2
"""A copy that is not as its checksums say is thrown away and read once more."""


@contextmanager
def near(uri: str) -> Iterator[str]:
    """Address of a shard on this machine: `uri` itself for a local one, else a copy in the cache.

    The copy stays as long as the block runs, and its checksums are verified before. The first process that
    asks copies; others wait for it. Raises SencaError when the shard cannot be read, is no whole one, or does
    not fit.
    """
    if not is_remote(uri):
        yield uri
        return
    uri = uri.rstrip("/")
    name = f"{uri.rpartition('/')[2]}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
    for _ in range(_TRIES):
        with copies.held(name, functools.partial(_size, uri), functools.partial(_fetch, uri)) as copy:
            if not (damaged := _damaged(copy)):
                yield str(copy)
                return
        copies.discard(copy)
    raise SencaError(
        f"{uri}: {', '.join(damaged)} missing or not as written, read twice; "
        "delete the shard and run `senca prepare` again"
    )


def _damaged(copy: Path) -> list[str]:
    try:
        return damaged_files(copy)
    except (ValueError, KeyError, AttributeError):
        return [keys.SHARD_FILE]


def _size(uri: str) -> int:
    return sum(size for _, size in _files(uri))


def _fetch(uri: str, folder: Path) -> None:
    download(uri, [(name, folder / name, size) for name, size in _files(uri)])


def _files(uri: str) -> list[tuple[str, int]]:
    """Name and bytes of the shard's files that are there, its description first."""
    text = read_bytes(f"{uri}/{keys.SHARD_FILE}")
    if text is None:
        raise SencaError(f"{uri}: not a shard: {keys.SHARD_FILE} is missing; `senca prepare` makes shards")
    try:
        named = set(json.loads(text)["checksums"])
    except (ValueError, KeyError, TypeError):
        named = set()  # found damaged, and read once more, when the copy is looked at
    # The names become those of files here, whatever a description says.
    names = [keys.SHARD_FILE, *(name for name in sorted(named) if "/" not in name and not wrong_key(name))]
    filesystem, path = connect(uri)
    with in_words(uri):
        infos = filesystem.get_file_info([f"{path}/{name}" for name in names])
    return [(n, i.size) for n, i in zip(names, infos, strict=True) if i.type == fs.FileType.File]

"""Shards that lie far away are copied once to every machine that reads them."""

from __future__ import annotations

import fcntl
import hashlib
import shutil

from pyarrow import fs

from senca_ray.data.shards import damaged_files
from senca_ray.errors import SencaError
from senca_ray.files import cache

FOLDER = "near"
"""Folder of the cache that holds the copies."""


def near(uri: str) -> str:
    """Address of a shard on this machine: `uri` itself for a local one, else a copy in the cache.

    The first process that asks copies; others wait for it. A copy is renamed into place when it is whole.
    Raises OSError when the shard cannot be read or the cache not be written, SencaError when what was read
    is no whole shard.
    """
    if "://" not in uri:
        return uri
    name = f"{uri.rstrip('/').rpartition('/')[2]}-{hashlib.sha256(uri.encode()).hexdigest()[:16]}"
    folder = cache() / FOLDER
    copy = folder / name
    if copy.exists():
        return str(copy)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            partial = folder / f".{name}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            source, path = fs.FileSystem.from_uri(uri)
            fs.copy_files(path, str(partial), source, fs.LocalFileSystem())
            if damaged := damaged_files(partial):
                raise SencaError(
                    f"{uri}: {', '.join(damaged)} missing or not as written; upload the shard again"
                )
            partial.rename(copy)
    return str(copy)

"""Where shards are kept: a folder on disk, or one in S3 or GCS.

STORE/SAMPLE-FINGERPRINT/...   a shard; in a storage it is one once its shard.json is there, which comes last
STORE/manifest.json            checksum of every shard's description by its name; one process writes it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from pyarrow import fs

from senca_ray import keys
from senca_ray.data import shards
from senca_ray.data.location import (
    address_of,
    connect,
    in_words,
    is_remote,
    list_files,
    read_bytes,
    upload,
    write_bytes,
)
from senca_ray.errors import SencaError
from senca_ray.files import cache, write_text


class Store(Protocol):
    """A folder of shards. Every method raises SencaError where the store refuses."""

    def uri(self, name: str) -> str:
        """Address of a shard, whether it is there or not."""
        ...

    def names(self) -> set[str]:
        """Names of the shards that are there, whole."""
        ...

    def has(self, name: str) -> bool:
        """Whether a shard is there, whole; ask for `names` where there are many."""
        ...

    def check_writable(self) -> None:
        """Raise SencaError saying why shards cannot be written here; makes the folder where it is missing."""
        ...

    def write(self, content: shards.ShardContent) -> str:
        """Write a shard, whole or not at all, and return its address; one that is there already is kept."""
        ...

    def add_to_manifest(self, names: Iterable[str]) -> None:
        """Add these shards and the checksums of their descriptions to the store's manifest."""
        ...


def open_store(location: str | Path) -> Store:
    """The store at a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER; nothing is read or written yet.

    Raises SencaError for an address that cannot be one.
    """
    if isinstance(location, str) and is_remote(location):
        connect(location)
        return RemoteStore(location.rstrip("/"))
    folder = Path(location)
    if address := address_of(folder):
        raise SencaError(f"{folder}: a folder found; write the address {address} as text")
    return LocalStore(folder)


class LocalStore:
    """Shards in a folder on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def uri(self, name: str) -> str:
        """Its folder."""
        return str(self._folder / name)

    def names(self) -> set[str]:
        """Every folder with a description; what is being written is hidden."""
        return {path.parent.name for path in self._folder.glob(f"[!.]*/{keys.SHARD_FILE}")}

    def has(self, name: str) -> bool:
        """A shard is renamed into place, so its folder is enough."""
        return (self._folder / name).is_dir()

    def check_writable(self) -> None:
        """Make the folder and look at its permissions."""
        folder = self._folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SencaError(
                f"{folder}: cannot be created ({error.strerror}); choose another folder"
            ) from None
        if not os.access(folder, os.W_OK):
            raise SencaError(f"{folder}: not writable; choose another folder or change its permissions")

    def write(self, content: shards.ShardContent) -> str:
        """As `shards.write_shard`."""
        return str(shards.write_shard(self._folder, content))

    def add_to_manifest(self, names: Iterable[str]) -> None:
        """Whole or not at all."""
        path = self._folder / keys.MANIFEST_FILE
        known = _manifest(path.read_bytes() if path.exists() else None, str(path))
        sums = {name: shards.sha256(self._folder / name / keys.SHARD_FILE) for name in names}
        if (current := known | sums) != known:
            write_text(path, _to_text(current))


class RemoteStore:
    """Shards in a folder of S3 or GCS."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def uri(self, name: str) -> str:
        """Its folder in the storage."""
        return f"{self._uri}/{name}"

    def names(self) -> set[str]:
        """Every folder with a description; costs a request for every 250 shards."""
        found = (name.split("/") for name in list_files(self._uri))
        return {parts[0] for parts in found if len(parts) == 2 and parts[1] == keys.SHARD_FILE}

    def has(self, name: str) -> bool:
        """Whether its description is there."""
        filesystem, path = connect(self.uri(name))
        with in_words(self.uri(name)):
            return bool(filesystem.get_file_info(f"{path}/{keys.SHARD_FILE}").type == fs.FileType.File)

    def check_writable(self) -> None:
        """Write the manifest again as it is, which is what the end of `prepare` needs."""
        write_bytes(self._manifest_uri, _to_text(self._known()).encode())

    def write(self, content: shards.ShardContent) -> str:
        """Write it to a temporary folder of the cache and upload that."""
        with in_words(str(cache())):
            cache().mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".upload-", suffix=".partial", dir=cache()))
        try:
            return self.put(shards.write_shard(work, content))
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def put(self, folder: Path) -> str:
        """Upload a whole local shard: its description last, after a look at the sizes of all other files.

        What breaks off leaves files without a description, which are no shard and are overwritten.
        """
        uri = self.uri(folder.name)
        if self.has(folder.name):
            return uri
        filesystem, path = connect(uri)
        files = sorted(folder.iterdir(), key=lambda file: (file.name == keys.SHARD_FILE, file.name))
        for file in files:
            with in_words(f"{uri}/{file.name}"):
                if file.name == keys.SHARD_FILE:
                    _check_sizes(filesystem, path, files[:-1], uri)
                upload(filesystem, file, f"{path}/{file.name}")
        return uri

    def add_to_manifest(self, names: Iterable[str]) -> None:
        """One request a shard, and the manifest's own."""
        known = self._known()
        with ThreadPoolExecutor(8) as pool:
            sums = dict(pool.map(self._checksum, names))
        if (current := known | sums) != known:
            write_bytes(self._manifest_uri, _to_text(current).encode())

    def _checksum(self, name: str) -> tuple[str, str]:
        content = read_bytes(f"{self.uri(name)}/{keys.SHARD_FILE}")
        if content is None:
            raise SencaError(f"{self.uri(name)}: removed meanwhile; run `senca prepare` again")
        return name, hashlib.sha256(content).hexdigest()

    def _known(self) -> dict[str, str]:
        return _manifest(read_bytes(self._manifest_uri), self._manifest_uri)

    @property
    def _manifest_uri(self) -> str:
        return f"{self._uri}/{keys.MANIFEST_FILE}"


def _check_sizes(filesystem: fs.FileSystem, path: str, files: list[Path], uri: str) -> None:
    """Raise SencaError naming every file that has not arrived whole."""
    infos = filesystem.get_file_info([f"{path}/{file.name}" for file in files])
    short = [
        file.name
        for file, info in zip(files, infos, strict=True)
        if info.type != fs.FileType.File or info.size != file.stat().st_size
    ]
    if short:
        raise SencaError(f"{uri}: {', '.join(short)} did not arrive whole; run it again")


def _manifest(content: bytes | None, place: str) -> dict[str, str]:
    try:
        known = json.loads(content) if content else {}
        if not isinstance(known, dict):
            raise ValueError
    except ValueError:
        raise SencaError(f"{place}: no manifest of shards; remove it, it is written again") from None
    return known


def _to_text(manifest: dict[str, str]) -> str:
    return json.dumps(manifest, indent=2, sort_keys=True)

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from pyarrow import fs
from toys import toy_content, toy_section

from senca_ray import keys
from senca_ray.data import store as module
from senca_ray.data.location import list_files, read_bytes, write_bytes
from senca_ray.data.near import near
from senca_ray.data.shards import ShardContent, read_sample, shard_name, write_shard
from senca_ray.data.store import RemoteStore, open_store
from senca_ray.errors import SencaError


@pytest.fixture
def content(tmp_path: Path) -> ShardContent:
    return toy_content(toy_section(tmp_path / "raw"))


def name_of(content: ShardContent) -> str:
    return shard_name(content.meta["sample"], content.meta["fingerprint"])


@pytest.fixture(params=["disk", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "disk":
        return str(tmp_path / "store")
    return f"s3://{request.getfixturevalue('bucket')}/some/shards"


def test_a_shard_comes_back_as_it_was_written(location: str, content: ShardContent, tmp_path: Path) -> None:
    store, name = open_store(location), name_of(content)
    store.check_writable()
    assert not store.has(name) and store.names() == set()
    uri = store.write(content)
    assert uri == store.uri(name) == f"{location}/{name}"
    assert store.has(name) and store.names() == {name}
    assert store.write(content) == uri
    here = str(write_shard(tmp_path / "here", content))
    with near(uri) as copy:
        there, local = read_sample(copy, 20), read_sample(here, 20)
    assert there.genes == local.genes and (there.counts != local.counts).nnz == 0
    assert read_sample(uri, 20).genes == local.genes


def test_the_manifest_knows_every_shard(location: str, content: ShardContent, tmp_path: Path) -> None:
    store, name = open_store(location), name_of(content)
    store.check_writable()
    store.write(content)
    other = toy_content(toy_section(tmp_path / "raw2", seed=2))
    store.write(other)
    store.add_to_manifest([name])
    store.add_to_manifest([name_of(other)])
    store.check_writable()
    uri = location if "://" in location else f"file://{location}"
    known = json.loads(read_bytes(f"{uri}/{keys.MANIFEST_FILE}") or b"")
    assert set(known) == {name, name_of(other)} == store.names()
    description = read_bytes(f"{uri}/{name}/{keys.SHARD_FILE}") or b""
    assert known[name] == hashlib.sha256(description).hexdigest()


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_manifest_that_is_none(location: str, text: str) -> None:
    store = open_store(location)
    store.check_writable()
    uri = location if "://" in location else f"file://{location}"
    write_bytes(f"{uri}/{keys.MANIFEST_FILE}", text.encode())
    with pytest.raises(SencaError, match="no manifest of shards"):
        store.add_to_manifest([])


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_an_upload_that_breaks_off_leaves_no_shard(
    bucket: str, own_cache: Path, content: ShardContent, monkeypatch: pytest.MonkeyPatch, broken: int
) -> None:
    real, sent = module.upload, []

    def breaks(filesystem: fs.FileSystem, local: Path, path: str) -> None:
        sent.append(local.name)
        if len(sent) > broken:
            raise OSError("connection reset")
        real(filesystem, local, path)

    store = open_store(f"s3://{bucket}/shards")
    with monkeypatch.context() as patched:
        patched.setattr(module, "upload", breaks)
        with pytest.raises(SencaError, match="connection reset"):
            store.write(content)
    assert len(list_files(f"s3://{bucket}/shards")) == broken
    assert not store.has(name_of(content)) and store.names() == set()
    with pytest.raises(SencaError, match="not a shard"), near(store.uri(name_of(content))):
        pass
    assert not list(own_cache.glob(".upload-*"))
    store.write(content)
    with near(store.uri(name_of(content))) as copy:
        assert read_sample(copy, 5).genes == content.genes[:5]


def test_half_a_file_is_noticed_before_the_shard_counts(
    bucket: str, content: ShardContent, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.upload

    def halves(filesystem: fs.FileSystem, local: Path, path: str) -> None:
        if local.name == keys.SPOTS_FILE:
            local.write_bytes(local.read_bytes()[:100])
            real(filesystem, local, path)
            local.write_bytes(b"0" * 5000)
        else:
            real(filesystem, local, path)

    monkeypatch.setattr(module, "upload", halves)
    store = open_store(f"s3://{bucket}/shards")
    with pytest.raises(SencaError, match=r"spots\.parquet did not arrive whole"):
        store.write(content)
    assert store.names() == set()


def test_a_damaged_object_is_found_when_it_is_read(bucket: str, content: ShardContent) -> None:
    uri = open_store(f"s3://{bucket}/shards").write(content)
    whole = read_bytes(f"{uri}/{keys.GENES_FILE}") or b""
    write_bytes(f"{uri}/{keys.GENES_FILE}", whole[:-9] + b"x" + whole[-8:])
    with pytest.raises(SencaError, match=r"genes\.parquet missing or not as written"), near(uri):
        pass
    write_bytes(f"{uri}/{keys.GENES_FILE}", whole)
    with near(uri) as copy:
        assert read_sample(copy, 5).genes == content.genes[:5]


def test_a_bucket_that_is_not_there(bucket: str) -> None:
    store = open_store("s3://nobody-made-this/shards")
    with pytest.raises(SencaError, match=r"s3://nobody-made-this/shards.*no such bucket"):
        store.check_writable()
    with pytest.raises(SencaError, match="no such bucket"):
        store.names()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SencaError, match="cannot be created"):
        open_store(tmp_path / "file" / "store").check_writable()


def test_an_address_that_became_a_path_is_refused() -> None:
    with pytest.raises(SencaError, match="write the address s3://bucket/shards as text"):
        open_store(Path("s3://bucket/shards"))


def test_what_is_no_shard_has_no_name(bucket: str) -> None:
    for key in (keys.MANIFEST_FILE, keys.SHARD_FILE, f"a/b/{keys.SHARD_FILE}", "half/spots.parquet"):
        write_bytes(f"s3://{bucket}/shards/{key}", b"{}")
    write_bytes(f"s3://{bucket}/shards/whole/{keys.SHARD_FILE}", b"{}")
    assert RemoteStore(f"s3://{bucket}/shards").names() == {"whole"}

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from senca_ray import keys
from senca_ray.data import copies
from senca_ray.data import near as module
from senca_ray.data.near import near
from senca_ray.data.shards import read_sample
from senca_ray.errors import SencaError


@pytest.fixture(autouse=True)
def cache(own_cache: Path) -> Path:
    return own_cache


def copied(cache: Path) -> list[Path]:
    return [p for p in (cache / copies.FOLDER).iterdir() if not p.name.startswith(".")]


def read(uri: str) -> tuple[str, tuple[str, ...]]:
    with near(uri) as here:
        return here, read_sample(here, 10).genes


def test_a_local_shard_is_read_where_it_is(toy_shard: str, cache: Path) -> None:
    with near(toy_shard) as here:
        assert here == toy_shard and not cache.exists()


def test_a_far_shard_is_copied_once_for_all_who_ask(
    toy_shard: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    real = module._fetch

    def counted(uri: str, folder: Path) -> None:
        fetched.append(uri)
        real(uri, folder)

    monkeypatch.setattr(module, "_fetch", counted)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(read, [f"file://{toy_shard}"] * 16))
    assert fetched == [f"file://{toy_shard}"] and len(found) == 1
    copy, genes = found.pop()
    assert Path(copy).is_relative_to(cache)
    assert genes == read_sample(toy_shard, 10).genes


def test_half_a_shard_is_no_shard(toy_shard: str, cache: Path) -> None:
    spots = Path(toy_shard) / keys.SPOTS_FILE
    spots.write_bytes(spots.read_bytes()[:100])
    with pytest.raises(SencaError, match=r"spots\.parquet missing or not as written, read twice"):
        read(f"file://{toy_shard}")
    assert not copied(cache)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema": 2, "checksums": 5}'])
def test_a_description_that_is_none(toy_shard: str, cache: Path, text: str) -> None:
    (Path(toy_shard) / keys.SHARD_FILE).write_text(text)
    with pytest.raises(SencaError, match=r"shard\.json|another version"):
        read(f"file://{toy_shard}")


def test_a_copy_that_was_damaged_on_this_disk_is_read_once_more(toy_shard: str, cache: Path) -> None:
    copy, genes = read(f"file://{toy_shard}")
    (Path(copy) / keys.GENES_FILE).write_bytes(b"rotten")
    assert read(f"file://{toy_shard}") == (copy, genes)


def test_a_description_cannot_name_files_elsewhere(toy_shard: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    path = Path(toy_shard) / keys.SHARD_FILE
    path.write_text(path.read_text().replace(keys.GENES_FILE, "../../secret"))
    with pytest.raises(SencaError, match=r"secret missing or not as written"):
        read(f"file://{toy_shard}")
    assert not list(cache.rglob("secret"))


def test_a_shard_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match="gone: not a shard"):
        read(f"file://{tmp_path}/gone")

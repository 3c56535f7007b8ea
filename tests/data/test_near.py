from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from senca_ray import keys
from senca_ray.data import near as module
from senca_ray.data.near import near
from senca_ray.data.shards import read_sample
from senca_ray.errors import SencaError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_local_shard_is_read_where_it_is(toy_shard: str, cache: Path) -> None:
    assert near(toy_shard) == toy_shard and not cache.exists()


def test_a_far_shard_is_copied_once_for_all_who_ask(
    toy_shard: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[str] = []
    real = module.fs.copy_files

    def counted(source: str, destination: str, *filesystems: object) -> None:
        copies.append(source)
        real(source, destination, *filesystems)

    monkeypatch.setattr(module.fs, "copy_files", counted)
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(near, [f"file://{toy_shard}"] * 16))
    assert copies == [toy_shard] and len(found) == 1
    copy = found.pop()
    assert Path(copy).is_relative_to(cache)
    assert read_sample(copy, 10).genes == read_sample(toy_shard, 10).genes


def test_half_a_shard_is_no_shard(toy_shard: str, cache: Path) -> None:
    spots = Path(toy_shard) / keys.SPOTS_FILE
    spots.write_bytes(spots.read_bytes()[:100])
    with pytest.raises(SencaError, match=r"spots\.parquet missing or not as written"):
        near(f"file://{toy_shard}")
    assert not [p for p in (cache / "near").iterdir() if not p.name.startswith(".")]


def test_a_shard_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        near(f"file://{tmp_path}/gone")

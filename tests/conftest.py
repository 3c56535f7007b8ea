from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from storage_fixtures import bucket, credentials, own_cache, s3, s3_server  # noqa: F401  fixtures
from toys import toy_content, toy_section
from world import World

from senca_ray.data.shards import write_shard

settings.register_profile("here", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("here")

ROOT = Path(__file__).parents[1]
HER2ST = ROOT.parent / "shared" / "data" / "her2st"


@pytest.fixture(scope="session")
def her2st() -> Path:
    """Real sections beside the checkout; tests that want them skip where they are absent."""
    if not HER2ST.is_dir():
        pytest.skip("the HER2ST sections are not beside this checkout (../shared/data/her2st)")
    return HER2ST


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A real local Ray with two CPUs, shared by the tests of this run."""
    from senca_ray import cluster

    with cluster.connected():
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What the end-to-end tests prepare is prepared once, by whichever worker comes first."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return World(tmp_path_factory.mktemp("world"), shared / "cache")


@pytest.fixture
def toy_shard(tmp_path: Path) -> str:
    """A shard of 48 spots without image."""
    return str(write_shard(tmp_path / "shards", toy_content(toy_section(tmp_path / "raw"))))

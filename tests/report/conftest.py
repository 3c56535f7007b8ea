from __future__ import annotations

from pathlib import Path

import pytest
from study_folder import make_ablation, make_benchmark, make_search, make_study


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over four sections, to be read only."""
    return make_study(tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished ablation over four sections, to be read only."""
    return make_ablation(tmp_path_factory.mktemp("ablation"))


@pytest.fixture(scope="session")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search over four patients, each left out once; to be read only."""
    return make_search(tmp_path_factory.mktemp("search"))


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished benchmark over four sections, to be read only; a method failed on one of them."""
    return make_benchmark(
        tmp_path_factory.mktemp("benchmark"),
        fails=lambda sample, method: (sample, method) == ("C1", "bayesspace"),
    )

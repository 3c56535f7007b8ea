from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import is_valid_linkage, linkage
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from senca_ray.fit.linkage import cut, linkage_of

LINKAGES = ("ward", "average", "complete")


@pytest.mark.parametrize("name", LINKAGES)
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30))
def test_a_point_that_stands_for_many_is_as_many_points(name: str, seed: int, n_points: int) -> None:
    rng = np.random.default_rng(seed)
    points, sizes = rng.normal(size=(n_points, 3)), rng.integers(1, 5, n_points)
    steps = linkage_of(points, sizes, name)
    every = np.repeat(points, sizes, axis=0)
    np.testing.assert_allclose(steps[:, 2], linkage(every, name)[1 - n_points :, 2], rtol=1e-9)
    for k in range(1, n_points + 1):
        expected = AgglomerativeClustering(k, linkage=name).fit_predict(every) if k > 1 else every[:, 0] * 0
        assert adjusted_rand_score(np.repeat(cut(steps, k), sizes), expected) == 1


@pytest.mark.parametrize("name", LINKAGES)
def test_of_single_points_it_is_the_tree_of_scipy(name: str) -> None:
    points = np.random.default_rng(0).normal(size=(40, 4))
    steps = linkage_of(points, np.ones(40, dtype=int), name)
    assert is_valid_linkage(steps)
    expected = linkage(points, name)
    np.testing.assert_allclose(steps[:, 2:], expected[:, 2:])
    np.testing.assert_array_equal(np.sort(steps[:, :2]), np.sort(expected[:, :2]))


def test_ties_end_and_one_point_is_one_group() -> None:
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    for name in LINKAGES:
        steps = linkage_of(grid, np.ones(25, dtype=int), name)
        assert [len(np.unique(cut(steps, k))) for k in (1, 4, 25)] == [1, 4, 25]
    assert cut(linkage_of(grid[:1], np.ones(1, dtype=int), "ward"), 1).tolist() == [0]

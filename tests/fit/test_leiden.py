from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from senca_ray.fit.leiden import neighbor_graph
from senca_ray.fit.regions import cluster


@pytest.mark.parametrize("k", range(2, 13))
def test_leiden_gives_exactly_k_communities(k: int) -> None:
    values = np.random.default_rng(0).normal(size=(90, 4))
    assert cluster(values, k, "leiden", seed=1).max() == k - 1


def test_leiden_depends_on_the_seed_and_on_nothing_global() -> None:
    values = np.random.default_rng(0).normal(size=(120, 4))
    partitions = [cluster(values, 6, "leiden", seed) for seed in range(4)]
    assert any((p != partitions[0]).any() for p in partitions[1:])
    random.seed(5)
    before = random.getstate()
    np.testing.assert_array_equal(cluster(values, 6, "leiden", 0), partitions[0])
    assert random.getstate() == before


def test_leiden_joins_the_closest_of_too_many_parts() -> None:
    # 15 spots or more a cloud: no spot's 14 nearest reach another cloud, so the graph falls into 4 parts.
    sizes = (20, 18, 17, 16)
    truth = np.repeat(range(4), sizes)
    values = 10 * np.eye(4)[truth] + np.random.default_rng(0).normal(scale=0.3, size=(sum(sizes), 4))
    assert adjusted_rand_score(truth, cluster(values, 4, "leiden", seed=0)) == 1
    values[truth == 3] += values[truth == 1].mean(axis=0) * 0.9 - values[truth == 3].mean(axis=0)
    joined = np.where(truth == 3, 1, truth)
    assert adjusted_rand_score(joined, cluster(values, 3, "leiden", seed=0)) == 1


def test_the_weights_of_the_graph_by_hand() -> None:
    # Of every spot the nearer neighbour weighs 1 and both together log2(3): the other one 0.585.
    graph, weights = neighbor_graph(np.array([[0.0], [1.0], [3.0]]))
    far = np.log2(3) - 1
    found = dict(zip(graph.get_edgelist(), weights.tolist(), strict=True))
    assert found == {(0, 1): 1.0, (1, 2): pytest.approx(1.0), (0, 2): pytest.approx(2 * far - far**2)}


def test_a_spot_is_joined_to_14_others_which_weigh_what_scanpy_lets_them() -> None:
    values = np.vstack([np.zeros((1, 3)), np.random.default_rng(0).normal([50, 0, 0], size=(200, 3))])
    graph, weights = neighbor_graph(values)
    # Nobody has the first spot, far from all, among its own nearest: its edges weigh what it gives them.
    assert graph.degree(0) == 14
    assert weights[graph.incident(0)].sum() == pytest.approx(np.log2(15))


def test_equal_rows_have_a_graph_too() -> None:
    values = np.repeat([[0.0, 0.0], [1.0, 0.0]], 20, axis=0)
    graph, weights = neighbor_graph(values)
    assert np.isfinite(weights).all() and (weights > 0).all() and min(graph.degree()) >= 14
    one, nothing = neighbor_graph(values[:1])
    assert one.vcount() == 1 and len(nothing) == 0

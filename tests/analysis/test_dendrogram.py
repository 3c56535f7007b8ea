from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.analysis.dendrogram import LINKAGES, MOST_LEAVES, embedding_tree
from senca_ray.analysis.portrait import Tree
from senca_ray.fit.regions import cluster


def clouds(n_spots: int, seed: int = 0, size: int = 5) -> np.ndarray:
    """(N, size) in five clouds; no two distances tie."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(5, size))[rng.integers(0, 5, n_spots)] * 3 + rng.normal(size=(n_spots, size))


def tree_of(values: np.ndarray, clustering: str) -> Tree:
    tree = embedding_tree(values, np.ones(len(values), dtype=bool), clustering)
    assert tree is not None
    return tree


def leaves_below(tree: Tree) -> list[set[int]]:
    """Of every node the leaves below it."""
    found = [{leaf} for leaf in range(len(tree.merges) + 1)]
    for left, right in tree.merges[:, :2].astype(int):
        found.append(found[left] | found[right])
    return found


def cut(tree: Tree, k: int) -> np.ndarray:
    """The group (N,) of every spot when the last k - 1 merges are undone."""
    below, n_leaves = leaves_below(tree), len(tree.merges) + 1
    group = np.arange(n_leaves)
    for i in range(n_leaves - k):
        group[list(below[n_leaves + i])] = n_leaves + i
    return group[tree.leaf]


@given(st.integers(2, 90), st.integers(0, 1000), st.sampled_from(LINKAGES), st.data())
def test_a_cut_is_the_agglomerative_clustering(
    n_spots: int, seed: int, linkage: str, data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, min(MOST_LEAVES, n_spots)))
    values = clouds(n_spots, seed)
    expected = AgglomerativeClustering(k, linkage=linkage).fit_predict(values)
    assert adjusted_rand_score(expected, cut(tree_of(values, linkage), k)) == 1.0


@given(st.integers(2, 90), st.integers(0, 1000), st.sampled_from(LINKAGES))
def test_leaves_stand_in_an_order_in_which_no_branches_cross(n_spots: int, seed: int, linkage: str) -> None:
    tree = tree_of(clouds(n_spots, seed), linkage)
    assert len(tree.merges) + 1 == min(MOST_LEAVES, n_spots)
    assert set(tree.leaf.tolist()) == set(range(len(tree.merges) + 1))
    for below in leaves_below(tree):
        assert max(below) - min(below) == len(below) - 1
    assert (np.diff(tree.merges[:, 2]) >= 0).all()


def test_a_clustering_that_joins_nothing_is_shown_with_ward_which_is_said() -> None:
    values = clouds(60)
    by_kmeans, by_ward = tree_of(values, "kmeans"), tree_of(values, "ward")
    assert by_kmeans.linkage == "ward"
    np.testing.assert_array_equal(by_kmeans.merges, by_ward.merges)
    assert tree_of(values, "average").linkage == "average"


def test_spots_left_out_are_in_no_leaf_and_change_nothing() -> None:
    values, kept = clouds(70), np.arange(70) % 7 != 3
    away = np.where(kept[:, None], values, 1e6)
    tree = embedding_tree(away, kept, "ward")
    assert tree is not None
    assert (tree.leaf[~kept] == keys.NO_REGION).all()
    alone = tree_of(values[kept], "ward")
    np.testing.assert_array_equal(tree.leaf[kept], alone.leaf)
    np.testing.assert_array_equal(tree.merges, alone.merges)


def test_equal_spots_are_joined_first() -> None:
    values = np.repeat(clouds(3), 30, axis=0)
    tree = tree_of(values, "ward")
    assert len(tree.merges) == MOST_LEAVES - 1
    assert adjusted_rand_score(np.repeat(np.arange(3), 30), cut(tree, 3)) == 1.0


@pytest.mark.parametrize("n_spots", [0, 1])
def test_fewer_than_two_spots_have_no_tree(n_spots: int) -> None:
    assert embedding_tree(clouds(5), np.arange(5) < n_spots, "ward") is None


def test_the_tree_of_a_large_section_is_that_of_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senca_ray.fit.cells.CELLS", 60)
    values, kept = clouds(300), np.arange(310) < 300
    embedding = np.concatenate([values, np.zeros((10, 5))])
    tree = embedding_tree(embedding, kept, "ward", keys.LARGE)
    assert tree is not None and len(tree.merges) == MOST_LEAVES - 1
    assert (tree.leaf[300:] == keys.NO_REGION).all() and set(tree.leaf[:300]) == set(range(MOST_LEAVES))
    expected = cluster(values, 5, "ward", 0, keys.LARGE)
    assert adjusted_rand_score(cut(tree, 5)[:300], expected) == 1

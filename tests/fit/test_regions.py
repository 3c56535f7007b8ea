from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.cluster import AgglomerativeClustering, KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from senca_ray import keys
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.fit.regions import choose_k, cluster, renumber, silhouette_curve


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As methods are run; on small arrays several threads mostly wait for each other."""
    with threadpool_limits(1):
        yield


def blobs(sizes: tuple[int, ...] = (12, 20, 8), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Well separated clouds of the given sizes and the true cloud of each row, in mixed order."""
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = 10.0 * np.eye(len(sizes))
    return centres[truth] + rng.normal(scale=0.3, size=(len(truth), len(sizes))), truth


def section(labels: list[str] | None, n_spots: int = 6) -> Sample:
    return Sample(
        name="T1",
        patient="T",
        label_source=keys.SIMULATED,
        fingerprint="0",
        encoder="none",
        genes=("G",),
        counts=csr_matrix((n_spots, 1), dtype=np.int32),
        total_counts=np.zeros(n_spots),
        target_sum=1e4,
        xy=np.zeros((n_spots, 2)),
        neighbors=np.zeros((n_spots, 10), dtype=np.int32),
        image_features=None,
        labels=None if labels is None else np.array(labels),
    )


def test_labels_policy_counts_labels_without_undetermined() -> None:
    labelled = section(["a", "b", keys.UNDETERMINED, "b", "c", keys.UNDETERMINED])
    assert choose_k("labels", labelled, np.zeros((6, 2)), "ward") == 3


def test_labels_policy_needs_labels() -> None:
    with pytest.raises(SencaError, match="needs labels; use fixed:N or auto"):
        choose_k("labels", section(None), np.zeros((6, 2)), "ward")
    with pytest.raises(SencaError, match=r"T1: every spot is undetermined.*use fixed:N or auto"):
        choose_k("labels", section([keys.UNDETERMINED] * 6), np.zeros((6, 2)), "ward")


def test_fixed_policy_needs_no_labels() -> None:
    assert choose_k("fixed:4", section(None), np.zeros((6, 2)), "ward") == 4


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_auto_finds_the_number_of_clouds_without_labels(clustering: str) -> None:
    values, _ = blobs((9, 10, 11, 12))
    assert choose_k("auto", section(None, len(values)), values, clustering) == 4


def test_auto_needs_three_spots() -> None:
    with pytest.raises(SencaError, match="'auto' needs 3 spots or more, found 2"):
        choose_k("auto", section(None, 2), np.eye(2), "ward")


def test_silhouette_curve_is_the_mean_silhouette_of_the_same_clustering() -> None:
    values, _ = blobs()
    curve = silhouette_curve(values, "average")
    assert list(curve) == list(range(2, 13))
    for k, value in curve.items():
        labels = AgglomerativeClustering(k, linkage="average").fit_predict(values)
        assert value == pytest.approx(silhouette_score(values, labels))


def test_silhouette_curve_stays_below_the_number_of_spots() -> None:
    assert list(silhouette_curve(np.arange(5.0)[:, None] ** 2, "ward")) == [2, 3, 4]


@pytest.mark.parametrize("linkage", ["ward", "average", "complete"])
def test_hierarchical_clusterings_are_those_of_scikit_learn(linkage: str) -> None:
    values = np.random.default_rng(1).normal(size=(40, 3))
    expected = AgglomerativeClustering(5, linkage=linkage).fit_predict(values)
    assert adjusted_rand_score(expected, cluster(values, 5, linkage, seed=0)) == 1


def test_kmeans_is_that_of_scikit_learn_with_ten_starts_and_the_seed() -> None:
    values = np.random.default_rng(1).normal(size=(60, 3))
    partitions = []
    for seed in range(4):
        expected = KMeans(8, n_init=10, random_state=seed).fit_predict(values)
        partitions.append(cluster(values, 8, "kmeans", seed))
        assert adjusted_rand_score(expected, partitions[-1]) == 1
    assert any((p != partitions[0]).any() for p in partitions[1:])


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_the_largest_region_is_0(clustering: str) -> None:
    values, truth = blobs(
        (20, 30, 17)
    )  # Leiden's graph joins 14 neighbours: smaller clouds would run together
    regions = cluster(values, 3, clustering, seed=3)
    assert regions.dtype == np.int16
    assert np.bincount(regions).tolist() == [30, 20, 17]
    np.testing.assert_array_equal(regions, np.array([1, 0, 2])[truth])


@pytest.mark.parametrize("clustering", CLUSTERINGS)
def test_one_region_and_as_many_as_spots(clustering: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 2))
    assert cluster(values, 1, clustering, seed=0).tolist() == [0] * 5
    assert cluster(values, 5, clustering, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_ties_in_size_go_by_the_first_spot() -> None:
    assert renumber(np.array([7, 2, 2, 7, 5])).tolist() == [0, 1, 1, 0, 2]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.permutations(range(7)))
def test_renumbering_depends_on_the_partition_only(raw: list[int], names: list[int]) -> None:
    regions = renumber(np.array(raw))
    np.testing.assert_array_equal(regions, renumber(np.array(names)[raw]))
    np.testing.assert_array_equal(regions, renumber(regions))
    sizes = np.bincount(regions)
    assert (np.diff(sizes) <= 0).all()
    assert len(sizes) == len(set(raw))
    assert len(set(zip(raw, regions.tolist(), strict=True))) == len(sizes)


@pytest.mark.parametrize("clustering", ["kmeans", "gmm-tied", "leiden"])
@pytest.mark.parametrize("k", [2, 4])
def test_equal_rows_stay_together_where_no_more_than_k_differ(clustering: str, k: int) -> None:
    values = np.repeat(np.eye(2), 5, axis=0)
    assert cluster(values, k, clustering, seed=0).tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("seed", range(3))
def test_tied_mixture_is_that_of_scikit_learn_with_five_starts(seed: int) -> None:
    values, _ = blobs((30, 40, 50), seed)
    values += np.random.default_rng(seed).normal(scale=3, size=values.shape)  # clouds that overlap
    model = GaussianMixture(3, covariance_type="tied", n_init=5, random_state=seed)
    expected = model.fit_predict(values - values.mean(axis=0))
    assert adjusted_rand_score(expected, cluster(values, 3, "gmm-tied", seed)) == 1


def test_tied_mixture_sees_clouds_that_are_long_in_one_direction() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1], 60)
    values = np.column_stack([rng.normal(scale=2, size=120), truth * 3 + rng.normal(scale=0.5, size=120)])
    assert adjusted_rand_score(truth, cluster(values, 2, "gmm-tied", seed=0)) == 1
    assert adjusted_rand_score(truth, cluster(values, 2, "kmeans", seed=0)) < 0.1


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("clustering", ["gmm-tied", "leiden"])
def test_units_and_constant_columns_do_not_matter(clustering: str, scale: float) -> None:
    values = np.random.default_rng(2).normal(size=(60, 3)) * [3, 1, 1]
    expected = cluster(values, 3, clustering, seed=0)
    other = np.column_stack([np.full(60, 7.0), values * scale])
    assert adjusted_rand_score(expected, cluster(other, 3, clustering, seed=0)) == 1


@pytest.mark.parametrize("clustering", ["gmm-tied", "leiden"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_embedding_gives_between_one_and_k_regions(clustering: str, data: st.DataObject) -> None:
    n_spots, n_values = data.draw(st.integers(1, 14)), data.draw(st.integers(1, 20))
    rows = st.lists(st.integers(-3, 3), min_size=n_values, max_size=n_values)
    values = np.array(data.draw(st.lists(rows, min_size=n_spots, max_size=n_spots)), dtype=float)
    k = data.draw(st.integers(1, n_spots))
    regions = cluster(values, k, clustering, seed=data.draw(st.integers(0, 2**32 - 1)))
    distinct = len(np.unique(values, axis=0))
    found = len(np.unique(regions))
    assert found == min(k, distinct) if clustering == "leiden" else 1 <= found <= min(k, distinct)


@pytest.mark.parametrize("k", [0, -1, 7])
def test_an_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(SencaError, match=f"k = {k} found; expected 1 to 6, the number of spots"):
        cluster(np.zeros((6, 2)), k, "ward", seed=0)


def test_an_unknown_clustering_and_a_diverged_embedding_are_refused() -> None:
    with pytest.raises(
        SencaError, match="'single' found; expected one of ward, average, complete, kmeans, gmm-tied"
    ):
        cluster(np.zeros((6, 2)), 2, "single", seed=0)
    with pytest.raises(SencaError, match=r"NaN.*lower learning_rate"):
        cluster(np.full((6, 2), np.nan), 2, "ward", seed=0)

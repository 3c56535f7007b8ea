"""Simple methods and null controls, each against its own description."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score
from toys import grid, toy_sample

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.graph import nearest_neighbors
from senca_ray.errors import SencaError
from senca_ray.fit.choices import CLUSTERINGS
from senca_ray.fit.regions import cluster
from senca_ray.methods.base import Method
from senca_ray.methods.concatenated import Concatenated
from senca_ray.methods.depth import Depth
from senca_ray.methods.image import Image
from senca_ray.methods.pca import Pca, principal_components
from senca_ray.methods.pearson import Pearson, variable_residuals
from senca_ray.methods.random_regions import RandomRegions, grow
from senca_ray.methods.smoothed_image import SmoothedImage
from senca_ray.methods.smoothed_pca import SmoothedPca
from senca_ray.methods.smoothing import smoothed, standardised

EMBEDDED = (Pca(), SmoothedPca(), Pearson(), Image(), SmoothedImage(), Concatenated(), Depth())
ALL = (*EMBEDDED, RandomRegions())


def embed(method: Method, seed: int = 0, **sample: int) -> np.ndarray:
    return method.embed(toy_sample(**sample), Setting(), seed).values


def products(values: np.ndarray) -> np.ndarray:
    """What two embeddings share that differ in the signs of their axes."""
    return values @ values.T


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.name)
def test_a_method_describes_itself(method: Method) -> None:
    assert method.kind in (keys.SIMPLE, keys.NULL) and method.source == keys.OURS
    assert set(method.clusterings) <= {*CLUSTERINGS, keys.OWN} and method.clusterings
    assert json.loads(json.dumps(dict(method.settings))) == dict(method.settings)
    assert method.genes_needed(Setting()) >= 1 and not method.follows_setting


@pytest.mark.parametrize("method", EMBEDDED, ids=lambda m: m.name)
def test_an_embedding_has_a_row_for_every_spot_and_does_not_depend_on_the_seed(method: Method) -> None:
    values = embed(method, seed=0)
    assert len(values) == 80 and np.isfinite(values).all()
    np.testing.assert_array_equal(values, embed(method, seed=1))


@pytest.mark.parametrize("method", [Pca(), SmoothedPca(), Pearson(), Concatenated()], ids=lambda m: m.name)
@pytest.mark.parametrize("clustering", ["kmeans", "gmm-tied", "ward", "leiden"])
def test_bands_are_found_with_every_clustering(method: Method, clustering: str) -> None:
    assert clustering in method.clusterings
    sample = toy_sample(genes=200)
    regions = cluster(method.embed(sample, Setting(), 0).values, 3, clustering, seed=0)
    kept = sample.labels != keys.UNDETERMINED
    assert adjusted_rand_score(sample.labels[kept], regions[kept]) > 0.7


@pytest.mark.parametrize("method", [Image(), SmoothedImage(), Concatenated()], ids=lambda m: m.name)
def test_without_an_image_there_is_nothing_to_cluster(method: Method) -> None:
    assert method.needs_image
    with pytest.raises(SencaError, match=f"T1: {method.name} needs an image and the section has none"):
        method.embed(toy_sample(image=False), Setting(), 0)


@pytest.mark.parametrize("shape", [(30, 70), (70, 30), (10, 4), (5, 60)])
def test_principal_components_are_those_of_scikit_learn(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).normal(size=shape) * 3 + 5
    expected = PCA(min(15, shape[0] - 1, shape[1]), svd_solver="full").fit_transform(values)
    found = principal_components(values, 15)
    assert found.shape == expected.shape
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-7)


def test_principal_components_of_nothing_are_nothing() -> None:
    assert not principal_components(np.ones((6, 9)), 3).any()


def test_pca_is_that_of_log_counts_and_uses_2000_genes() -> None:
    sample = toy_sample(genes=2010)
    expected = PCA(15, svd_solver="full").fit_transform(sample.expression(2000))
    found = Pca().embed(sample, Setting(), 0).values
    np.testing.assert_allclose(products(found), products(expected), rtol=1e-4, atol=1e-2)


def test_smoothed_pca_by_its_description() -> None:
    sample = toy_sample()
    expression = sample.expression(60).astype(np.float64)
    scores = np.minimum((expression - expression.mean(axis=0)) / expression.std(axis=0), 10)
    steps = np.abs(sample.xy[:, None] - sample.xy).sum(axis=2)
    beside = steps <= 1
    expected = PCA(15, svd_solver="full").fit_transform(beside @ scores / beside.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(products(embed(SmoothedPca())), products(expected), rtol=1e-4, atol=1e-2)


def test_a_high_score_is_cut_off() -> None:
    sample = toy_sample(columns=20, rows=10)
    counts = sample.counts.tolil()
    counts[:, 0] = 0
    counts[7, 0] = 1  # a z-score of sqrt(199), were it not cut at 10
    rare = dataclasses.replace(sample, counts=csr_matrix(counts))
    scores = standardised(rare.expression(60))
    assert scores.max() > 14
    expected = principal_components(smoothed(rare, np.minimum(scores, 10), 4), 15)
    np.testing.assert_allclose(SmoothedPca().embed(rare, Setting(), 0).values, expected)


def test_smoothing_stops_at_the_rim_by_hand() -> None:
    sample = dataclasses.replace(toy_sample(), xy=grid(10, 8))
    values = np.arange(80.0)[:, None]  # spot number: columns are 1 apart, rows 10
    four, eight = smoothed(sample, values, 4).ravel(), smoothed(sample, values, 8).ravel()
    assert four[0] == pytest.approx((0 + 1 + 10) / 3)
    assert four[5] == pytest.approx((5 + 4 + 6 + 15) / 4)
    assert four[22] == eight[22] == pytest.approx(22)
    assert eight[0] == pytest.approx((0 + 1 + 10 + 11) / 4)
    assert eight[5] == pytest.approx((5 + 4 + 6 + 14 + 15 + 16) / 6)


def test_standardised_columns() -> None:
    found = standardised(np.array([[1.0, 0.1], [3.0, 0.1], [5.0, 0.1]], dtype=np.float32))
    np.testing.assert_allclose(found, [[-np.sqrt(1.5), 0], [0, 0], [np.sqrt(1.5), 0]], atol=1e-6)


def test_pearson_residuals_by_hand() -> None:
    counts = csr_matrix(np.array([[4, 0, 0], [0, 4, 0], [0, 0, 0]]))
    # Spots with counts total 4 each of 8, and so do genes 0 and 1: m = 2 in each of their four places.
    spread = np.sqrt(2 + 4 / 100)
    clipped = min(2 / spread, np.sqrt(3))
    expected = [[clipped, -2 / spread, 0], [-2 / spread, clipped, 0], [0, 0, 0]]
    np.testing.assert_allclose(variable_residuals(counts, 3, theta=100), expected)
    np.testing.assert_allclose(variable_residuals(counts, 2, theta=100), np.array(expected)[:, :2])


def test_residuals_are_clipped_and_those_of_most_variance_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(0).poisson(3, size=(16, 20))
    counts[:, 11] = 0
    counts[3, 11] = 400
    whole = variable_residuals(csr_matrix(counts), 20, theta=100)
    assert whole.max() == 4  # sqrt(16)
    kept = np.sort(np.argsort(-whole.var(axis=0))[:5])
    assert 11 in kept
    monkeypatch.setattr("senca_ray.methods.pearson._AT_ONCE", 6)
    np.testing.assert_array_equal(variable_residuals(csr_matrix(counts), 5, theta=100), whole[:, kept])


def test_concatenated_blocks_weigh_the_same() -> None:
    values = embed(Concatenated())
    assert values.shape == (80, 30)
    np.testing.assert_allclose([values[:, :15].var(axis=0).sum(), values[:, 15:].var(axis=0).sum()], 1)
    expression = embed(SmoothedPca())
    np.testing.assert_allclose(values[:, :15] / expression, (values[:, :15] / expression)[0, 0])


def test_an_image_without_content_adds_nothing() -> None:
    sample = dataclasses.replace(toy_sample(), image_features=np.ones((80, 24), dtype=np.float32))
    assert not Concatenated().embed(sample, Setting(), 0).values[:, 15:].any()
    assert not Image().embed(sample, Setting(), 0).values.any()


def test_depth_sees_totals_only() -> None:
    sample = toy_sample()
    totals = np.where(sample.xy[:, 0] < 5, 100, 9)
    deep = dataclasses.replace(sample, counts=sample.counts[::-1], total_counts=totals)
    found = Depth().embed(deep, Setting(), 0).values
    assert found.shape == (80, 1)
    np.testing.assert_allclose(found[[0, 2, 7]].ravel(), np.log1p([100, 100, 9]))
    assert found[4, 0] == pytest.approx((4 * np.log(101) + 2 * np.log(10)) / 6)


def parts(regions: np.ndarray, neighbors: np.ndarray) -> int:
    """Number of contiguous pieces that all regions together consist of."""
    spots = np.repeat(np.arange(len(regions)), neighbors.shape[1])
    same = regions[spots] == regions[neighbors.ravel()]
    edges = (np.ones(same.sum()), (spots[same], neighbors.ravel()[same]))
    return int(connected_components(csr_matrix(edges, shape=(len(regions),) * 2), directed=False)[0])


@given(st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_random_regions_are_k_and_contiguous(k: int, seed: int) -> None:
    xy = grid(10, 8)
    neighbors = nearest_neighbors(xy, 4)
    regions = grow(xy, neighbors, k, seed)
    assert sorted(set(regions.tolist())) == list(range(k))
    assert parts(regions, neighbors) == k


def test_random_regions_reach_parts_without_a_start() -> None:
    xy = np.vstack([grid(4, 4), grid(4, 4) + np.array([100, 0]), grid(4, 4) + np.array([130, 0])])
    neighbors = nearest_neighbors(xy, 4)
    assert parts(np.zeros(48), neighbors) == 3
    for seed in range(5):
        regions = grow(xy, neighbors, 1, seed)
        assert (regions == 0).all()
        regions = grow(xy, neighbors, 2, seed)
        assert set(regions.tolist()) == {0, 1}
        # Where one region alone reaches the middle part, the last one is entered from there.
        if len(set(regions[16:32].tolist())) == 1 and len(set(regions[32:].tolist())) == 1:
            assert regions[16] == regions[32] or set(regions[:16].tolist()) == {regions[16]}


def test_random_regions_differ_by_seed_alone() -> None:
    method, sample = RandomRegions(), toy_sample()
    found = [method.segment(sample, Setting(), seed, 4) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0].regions, found[1].regions)
    assert (found[0].regions != found[2].regions).any()
    np.testing.assert_array_equal(found[0].values, sample.xy)


@pytest.mark.parametrize("k", [0, 81])
def test_random_regions_need_a_possible_k(k: int) -> None:
    with pytest.raises(SencaError, match=f"T1: k = {k} found; expected 1 to 80, the number of spots"):
        RandomRegions().segment(toy_sample(), Setting(), 0, k)

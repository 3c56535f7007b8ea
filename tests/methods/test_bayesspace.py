import dataclasses
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.metrics import adjusted_rand_score
from toys import grid, toy_sample

from senca_ray.config import Setting
from senca_ray.data.graph import nearest_neighbors
from senca_ray.errors import SencaError
from senca_ray.methods import potts
from senca_ray.methods.bayesspace import BayesSpace, join, log_expression, mixture_start, variable_genes
from senca_ray.methods.potts import Lattice, Prior

WEAK = Prior(gamma=0.0, degrees_of_freedom=4.0, lambda0=0.01, alpha=1.0, beta=0.01)


class Quick(BayesSpace):
    """The same chain, shorter."""

    settings = MappingProxyType({**BayesSpace.settings, "iterations": 150, "burn_in": 50})


def lattice_of(xy: np.ndarray) -> Lattice:
    return potts.lattice(xy, nearest_neighbors(xy, 6).astype(np.int64))


def neighbor_sets(lattice: Lattice) -> list[set[int]]:
    n_spots = len(lattice.degree)
    return [set(row[row < n_spots].tolist()) for row in lattice.neighbors]


def pairs_of_spots(n_pairs: int) -> Lattice:
    """Pairs a spot distance apart, each far from the others."""
    neighbors = np.arange(2 * n_pairs).reshape(-1, 2)[:, ::-1].reshape(-1, 1)
    colors = (np.arange(0, 2 * n_pairs, 2), np.arange(1, 2 * n_pairs, 2))
    return Lattice(neighbors, np.ones(2 * n_pairs, dtype=np.int64), colors)


def run_chain(
    values: np.ndarray, start: np.ndarray, lattice: Lattice, gamma: float, iterations: int = 300
) -> np.ndarray:
    prior = dataclasses.replace(WEAK, gamma=gamma)
    n_regions = int(start.max()) + 1
    rng = np.random.default_rng(0)
    return potts.sample_regions(values, start, n_regions, lattice, prior, iterations, 50, rng)


# --- The lattice ---------------------------------------------------------------------------------------


def test_neighbours_of_a_square_lattice_with_a_hole_by_hand() -> None:
    xy = np.delete(grid(3, 3), 4, axis=0)  # a ring of 8 spots around the hole
    found = neighbor_sets(lattice_of(xy))
    assert found == [{1, 3}, {0, 2}, {1, 4}, {0, 5}, {2, 7}, {3, 6}, {5, 7}, {4, 6}]


def test_a_hexagonal_lattice_has_six_neighbours() -> None:
    xy = np.array([[x + y % 2 / 2, y * 3**0.5 / 2] for y in range(5) for x in range(5)])
    lattice = lattice_of(xy)
    assert lattice.degree[12] == 6
    assert neighbor_sets(lattice)[12] == {6, 7, 11, 13, 16, 17}


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.3, 1.0), st.floats(0, 0.04))
def test_any_square_section_is_symmetric_and_has_two_proper_colours(
    seed: int, kept: float, jitter: float
) -> None:
    rng = np.random.default_rng(seed)
    xy = grid(8, 7)
    xy = xy[rng.permutation(len(xy))[: max(10, int(kept * len(xy)))]]
    lattice = lattice_of(xy + rng.uniform(-jitter, jitter, xy.shape))
    sets = neighbor_sets(lattice)
    exact = np.abs(xy[:, None] - xy[None]).sum(axis=2) == 1
    assert sets == [set(np.flatnonzero(row).tolist()) for row in exact]
    np.testing.assert_array_equal(lattice.degree, exact.sum(axis=1))
    assert sorted(np.concatenate(lattice.colors).tolist()) == list(range(len(xy)))
    assert len(lattice.colors) <= 2
    assert not any(exact[np.ix_(spots, spots)].any() for spots in lattice.colors)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.floats(0, 0.6))
def test_colours_of_any_graph_are_proper(seed: int, n_spots: int, density: float) -> None:
    upper = np.triu(np.random.default_rng(seed).random((n_spots, n_spots)) < density, 1)
    joined = upper | upper.T
    neighbors = np.where(joined, np.arange(n_spots), n_spots)
    color = potts.color_spots(neighbors)
    assert color.min() == 0
    assert not (joined & (color[:, None] == color)).any()


# --- The conditionals ----------------------------------------------------------------------------------


def test_means_are_weighted_averages_and_an_empty_region_follows_the_prior() -> None:
    values = np.array([[0.0, 1.0], [4.0, 3.0], [10.0, 10.0]])
    weights = np.array([3.0, 1.0, 1.0])
    rng = np.random.default_rng(0)
    center = np.array([5.0, -5.0])
    draws = np.array(
        [
            potts.draw_means(values, np.array([0, 0, 1]), weights, 100 * np.eye(2), center, 3, 0.25, rng)
            for _ in range(2000)
        ]
    )
    # Precision 0.25 at the centre against 4 * 100 at the weighted average (1, 1.5).
    expected = (0.25 * center + 400 * np.array([1.0, 1.5])) / 400.25
    np.testing.assert_allclose(draws[:, 0].mean(axis=0), expected, atol=0.005)
    np.testing.assert_allclose(draws[:, 0].std(axis=0), 400.25**-0.5, rtol=0.1)
    np.testing.assert_allclose(draws[:, 2].mean(axis=0), center, atol=0.2)
    np.testing.assert_allclose(draws[:, 2].std(axis=0), 2.0, rtol=0.1)


def test_precision_has_the_mean_and_spread_of_the_wishart_distribution() -> None:
    scatter = np.array([[2.0, 0.6], [0.6, 1.0]])
    rng = np.random.default_rng(0)
    roots = [potts.draw_precision_root(scatter, 12.0, rng) for _ in range(4000)]
    draws = np.array([root @ root.T for root in roots])
    scale = np.linalg.inv(scatter)
    np.testing.assert_allclose(draws.mean(axis=0), 12 * scale, rtol=0.05)
    np.testing.assert_allclose(draws[:, 0, 0].var(), 2 * 12 * scale[0, 0] ** 2, rtol=0.15)


def test_without_the_prior_a_spot_visits_regions_in_proportion_to_their_density() -> None:
    density = np.array([0.6, 0.3, 0.1])
    lattice = pairs_of_spots(2000)
    regions, rng = np.zeros(4000, dtype=np.int64), np.random.default_rng(0)
    for _ in range(30):
        regions = potts.flip_regions(regions, np.tile(np.log(density), (4000, 1)), lattice, 0.0, rng)
    np.testing.assert_allclose(np.bincount(regions) / 4000, density, atol=0.03)


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_two_neighbours_agree_as_often_as_the_potts_model_says(gamma: float) -> None:
    lattice = pairs_of_spots(3000)
    regions, rng = np.arange(6000) % 3, np.random.default_rng(1)
    for _ in range(60):
        regions = potts.flip_regions(regions, np.zeros((6000, 3)), lattice, gamma, rng)
    agree = (regions[::2] == regions[1::2]).mean()
    # Of 9 states 3 agree, each e^(2 gamma) times as likely as one that does not.
    assert agree == pytest.approx(1 / (1 + 2 * np.exp(-2 * gamma)), abs=0.03)


def test_the_pull_is_shared_by_the_neighbours_that_are_there() -> None:
    # A spot with two neighbours and one with four feel the same pull towards agreement with all.
    lattice = lattice_of(grid(5, 5))
    middle, corner = 12, 0
    density = np.zeros((25, 2))
    density[:, 1] = 6.0  # worth leaving neighbours that pull with 2 * 1, not those with 2 * 6
    stays = [np.zeros(25, dtype=np.int64)] * 2
    rng = np.random.default_rng(0)
    for place, gamma in enumerate((1.0, 6.0)):
        for spot in (middle, corner):
            only = dataclasses.replace(lattice, colors=(np.array([spot]),))
            for _ in range(40):
                stays[place] = potts.flip_regions(stays[place], density, only, gamma, rng)
    assert stays[0][[middle, corner]].tolist() == [1, 1]
    assert stays[1][[middle, corner]].tolist() == [0, 0]


# --- The chain -----------------------------------------------------------------------------------------


def test_far_apart_regions_are_found_whatever_the_start_and_without_the_prior() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(80) % 2  # a pattern that no spatial prior would support
    values = rng.normal(size=(80, 2)) + 20 * truth[:, None]
    start = np.where(np.arange(80) < 12, 1 - truth, truth)
    visits = run_chain(values, start, lattice_of(grid(10, 8)), gamma=0.0)
    np.testing.assert_array_equal(visits.argmax(axis=1), truth)
    assert (visits.sum(axis=1) == 250).all()


def test_the_prior_removes_isolated_spots_that_expression_leaves_open() -> None:
    rng = np.random.default_rng(0)
    xy = grid(10, 8)
    half = (xy[:, 0] >= 5).astype(np.int64)
    values = np.where(half, 3.0, -3.0)[:, None] + rng.normal(scale=0.7, size=(80, 2))
    alone = [32, 37]  # one spot inside each half, a little more like the other one
    values[alone] = [[0.3, 0.3], [-0.3, -0.3]]
    lattice = lattice_of(xy)
    free, smooth = (run_chain(values, half, lattice, gamma).argmax(axis=1) for gamma in (0.0, 4.0))
    np.testing.assert_array_equal(smooth, half)
    assert (free[alone] != half[alone]).all()


def test_potts_regions_are_recovered_better_with_the_prior_than_without() -> None:
    rng = np.random.default_rng(3)
    xy = grid(16, 14)
    lattice = lattice_of(xy)
    truth = rng.integers(0, 3, len(xy))
    for _ in range(150):
        truth = potts.flip_regions(truth, np.zeros((len(xy), 3)), lattice, 3.0, rng)
    means = np.array([[1.5, 0.0], [-0.75, 1.3], [-0.75, -1.3]])
    values = means[truth] + rng.normal(size=(len(xy), 2))
    start = ((values[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    with_prior, without = (
        adjusted_rand_score(truth, run_chain(values, start, lattice, gamma).argmax(axis=1))
        for gamma in (2.0, 0.0)
    )
    assert with_prior > without + 0.1


def test_the_chain_survives_a_region_that_empties() -> None:
    rng = np.random.default_rng(0)
    start = np.zeros(40, dtype=np.int64)
    start[0] = 2  # of three regions one is empty from the start
    visits = run_chain(rng.normal(size=(40, 3)), start, lattice_of(grid(8, 5)), gamma=3.0)
    assert visits.shape == (40, 3)
    assert (visits.sum(axis=1) == 250).all()


# --- Genes and the method ------------------------------------------------------------------------------


def test_log_expression_by_hand() -> None:
    sample = dataclasses.replace(
        toy_sample(), counts=csr_matrix(np.array([[3, 0], [1, 2]])), total_counts=np.array([2, 6])
    )
    # Size factors 0.5 and 1.5.
    expected = [[np.log2(7), 0], [np.log2(5 / 3), np.log2(7 / 3)]]
    np.testing.assert_allclose(log_expression(sample).toarray(), expected)


def test_variable_genes_exceed_the_trend_of_their_mean() -> None:
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.5, 6, 400)
    spread = np.sqrt(mean)  # variance grows with the mean: it alone would choose the largest means
    planted = np.argsort(mean)[:300:50]
    spread[planted] *= 2 + np.arange(len(planted))[::-1]
    expression = csr_matrix(mean + spread * rng.normal(size=(300, 400)))
    chosen = variable_genes(expression, 6)
    assert set(chosen.tolist()) == set(planted.tolist())
    everything = variable_genes(expression, 400)
    assert 100 < len(everything) < 300
    np.testing.assert_array_equal(everything[:6], chosen)


def test_too_few_genes_for_a_trend_are_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SencaError, match="expected 10 or more"):
        variable_genes(csr_matrix(rng.random((20, 9))), 5)


def joined_by_hand(points: np.ndarray, k: int) -> set[frozenset[int]]:
    """What `join` does, from its criterion alone: every union is tried anew."""
    n_points, dimensions = points.shape
    floor = n_points * np.trace(np.cov(points.T, bias=True)) / (n_points * dimensions)

    def term(group: frozenset[int]) -> float:
        inside = points[sorted(group)]
        scatter = (inside - inside.mean(axis=0)).T @ (inside - inside.mean(axis=0))
        volume = np.linalg.det(scatter / len(group))
        return len(group) * np.log(volume + (np.trace(scatter) + floor) / len(group))

    groups = {frozenset([i]) for i in range(n_points)}
    while len(groups) > k:
        pairs = [(a, b) for a in groups for b in groups if min(a) < min(b)]
        a, b = min(pairs, key=lambda pair: term(pair[0] | pair[1]) - term(pair[0]) - term(pair[1]))
        groups = groups - {a, b} | {a | b}
    return groups


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 14), st.integers(1, 5))
def test_joining_takes_the_cheapest_union_every_time(seed: int, n_points: int, k: int) -> None:
    points = np.random.default_rng(seed).normal(size=(n_points, 2))
    group = join(points, min(k, n_points))
    found = {frozenset(np.flatnonzero(group == g).tolist()) for g in np.unique(group)}
    assert found == joined_by_hand(points, k)


@pytest.mark.parametrize("most", [200, 60])
def test_the_start_separates_long_groups(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senca_ray.methods.bayesspace._MOST_JOINED", most)
    rng = np.random.default_rng(0)
    truth = np.arange(150) % 3
    # Longer than far apart: the shared covariance has to be found, too.
    values = rng.normal(size=(150, 2)) * [8.0, 0.5] + np.array([0.0, 6.0]) * truth[:, None]
    assert adjusted_rand_score(truth, mixture_start(values, 3, rng)) == 1


def test_it_finds_bands_and_repeats_itself() -> None:
    sample = toy_sample(genes=200, image=False)
    first, second, other = (Quick().segment(sample, Setting(), seed, 3) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.regions, second.regions)
    np.testing.assert_array_equal(first.values, other.values)
    assert first.values.shape == (len(sample.xy), 15)
    band = np.minimum(sample.xy[:, 0] * 3 // 10, 2)
    assert adjusted_rand_score(band, first.regions) > 0.9


def test_a_hexagonal_section_is_smoothed_as_visium_is(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[float] = []

    def spy(
        values: np.ndarray, start: np.ndarray, n_regions: int, lattice: Lattice, prior: Prior, *_
    ) -> object:
        used.append(prior.gamma)
        return np.eye(n_regions, dtype=np.int64)[start]

    monkeypatch.setattr("senca_ray.methods.bayesspace.sample_regions", spy)
    square = toy_sample()
    x, y = square.xy.T
    xy = np.column_stack([x + y % 2 / 2, y * 3**0.5 / 2])
    hexagonal = dataclasses.replace(square, xy=xy, neighbors=nearest_neighbors(xy, 16))
    for sample in (square, hexagonal):
        Quick().segment(sample, Setting(), 0, 3)
    assert used == [2.0, 3.0]


def test_one_region_needs_no_chain() -> None:
    assert not Quick().segment(toy_sample(), Setting(), 0, 1).regions.any()


def test_impossible_requests_are_refused() -> None:
    sample = toy_sample()
    with pytest.raises(SencaError, match="T1: k = 81 found; expected 1 to 80"):
        Quick().segment(sample, Setting(), 0, 81)
    with pytest.raises(SencaError, match="needs spots on a lattice"):
        Quick().segment(dataclasses.replace(sample, xy=sample.xy * 5), Setting(), 0, 3)

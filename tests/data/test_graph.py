import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import grid

from senca_ray.data.graph import nearest_neighbors


def brute_force(xy: np.ndarray, k: int) -> np.ndarray:
    rows = []
    for i, spot in enumerate(xy):
        distances = np.round(np.sqrt(((xy - spot) ** 2).sum(axis=1)), 6)
        order = sorted((d, j) for j, d in enumerate(distances) if j != i)
        rows.append([j for _, j in order[:k]])
    return np.array(rows)


positions = st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=12, max_size=40)


@settings(max_examples=60, deadline=None)
@given(positions, st.integers(1, 11))
def test_equals_brute_force_on_integer_grids_with_ties(spots: set[tuple[int, int]], k: int) -> None:
    xy = np.array(sorted(spots), dtype=float)
    np.testing.assert_array_equal(nearest_neighbors(xy, k), brute_force(xy, k))


@settings(max_examples=60, deadline=None)
@given(positions, st.integers(1, 10))
def test_fewer_neighbours_are_a_prefix_of_more(spots: set[tuple[int, int]], k: int) -> None:
    xy = np.array(sorted(spots), dtype=float)
    np.testing.assert_array_equal(nearest_neighbors(xy, k), nearest_neighbors(xy, 11)[:, :k])


def test_equals_brute_force_off_the_grid() -> None:
    xy = np.random.default_rng(0).normal(size=(80, 2))
    np.testing.assert_array_equal(nearest_neighbors(xy, 9), brute_force(xy, 9))


def test_rounding_hides_float_noise_in_tied_distances() -> None:
    exact = grid(9, 7)
    noisy = exact + np.random.default_rng(1).uniform(-1e-9, 1e-9, exact.shape)
    np.testing.assert_array_equal(nearest_neighbors(noisy, 8), nearest_neighbors(exact, 8))


def test_too_few_spots() -> None:
    with pytest.raises(ValueError, match="4 neighbours need at least 5"):
        nearest_neighbors(grid(2, 2), 4)

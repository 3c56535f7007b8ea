from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senca_ray.errors import SencaError
from senca_ray.fit.refinement import refine
from senca_ray.fit.regions import renumber


@st.composite
def sections(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Regions (N,) and neighbours (N, K) without the spot itself."""
    n_spots = draw(st.integers(3, 12))
    n_near = draw(st.integers(1, n_spots - 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    others = [np.delete(np.arange(n_spots), spot) for spot in range(n_spots)]
    neighbors = np.array([rng.choice(o, n_near, replace=False) for o in others])
    return rng.integers(0, 4, n_spots), neighbors


def test_by_hand() -> None:
    """A row of seven spots, each with 4 neighbours; columns are whom a spot asks."""
    regions = np.array([0, 0, 0, 0, 1, 1, 2])
    neighbors = np.array(
        [
            [1, 2, 3, 4],  # three of 0, its own: stays
            [0, 2, 4, 5],  # two of 0, two of 1: none has more than half, stays
            [4, 5, 6, 0],  # two of 1 among four: not more than half, stays
            [4, 5, 4, 6],  # three of 1: becomes 1
            [5, 3, 0, 1],  # three of 0: becomes 0
            [4, 6, 3, 2],  # two of 0: stays
            [4, 5, 3, 4],  # three of 1: region 2 vanishes
        ]
    )
    assert refine(regions, neighbors).tolist() == [0, 0, 0, 1, 0, 1, 1]


def test_a_round_looks_at_the_regions_before_it() -> None:
    regions, neighbors = np.array([0, 1, 0, 0]), np.array([[1], [0], [3], [2]])
    assert refine(regions, neighbors).tolist() == [1, 0, 0, 0]  # 0 and 1 change places
    assert refine(regions, neighbors, rounds=2).tolist() == [0, 1, 0, 0]
    assert refine(regions, neighbors, rounds=0).tolist() == [0, 1, 0, 0]


def test_a_lone_spot_on_a_grid_joins_what_surrounds_it_and_regions_are_renumbered() -> None:
    regions = np.zeros((5, 5), dtype=int)
    regions[2, 2], regions[:, 4] = 3, 7
    spots = np.arange(25).reshape(5, 5)
    rim = np.pad(spots, 1, mode="reflect")
    neighbors = np.stack([rim[:-2, 1:-1], rim[2:, 1:-1], rim[1:-1, :-2], rim[1:-1, 2:]], axis=-1).reshape(
        25, 4
    )
    refined = refine(regions.ravel(), neighbors).reshape(5, 5)
    assert refined.dtype == np.int16
    assert refined[:, :4].max() == 0 and (refined[:, 4] == 1).all()


@given(sections(), st.integers(0, 3))
def test_one_region_stays_one(section: tuple[np.ndarray, np.ndarray], rounds: int) -> None:
    assert not refine(np.full(len(section[0]), 5), section[1], rounds).any()


@given(sections(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_of_the_spots_does_not_matter(
    section: tuple[np.ndarray, np.ndarray], random: object, rounds: int
) -> None:
    regions, neighbors = section
    order = list(range(len(regions)))
    random.shuffle(order)  # type: ignore[attr-defined]
    place = np.argsort(order)
    moved = refine(regions[order], place[neighbors[order]], rounds)
    np.testing.assert_array_equal(moved, renumber(refine(regions, neighbors, rounds)[order]))


@given(sections())
def test_a_spot_takes_what_more_than_half_of_its_neighbours_have(
    section: tuple[np.ndarray, np.ndarray],
) -> None:
    regions, neighbors = section
    expected = regions.copy()
    for spot, near in enumerate(neighbors):
        for region in set(regions[near].tolist()):
            if 2 * sum(regions[n] == region for n in near) > len(near):
                expected[spot] = region
    np.testing.assert_array_equal(refine(regions, neighbors), renumber(expected))


def test_arrays_of_different_sections_are_refused() -> None:
    with pytest.raises(SencaError, match="3 regions and neighbours of 2 spots found; expected one region a"):
        refine(np.zeros(3, dtype=int), np.zeros((2, 4), dtype=int))

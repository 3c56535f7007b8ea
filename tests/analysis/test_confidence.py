from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.analysis.confidence import seed_agreement

N_SPOTS = 12
PARTITION = st.lists(st.integers(0, 3), min_size=N_SPOTS, max_size=N_SPOTS).map(np.array)


def test_seeds_that_find_the_same_agree_everywhere_however_they_number_it() -> None:
    regions = np.array([0, 0, 0, 1, 1, 2])
    found = seed_agreement(regions, [regions, np.array([5, 5, 5, 0, 0, 1])])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.ones(6))


def test_the_share_is_that_of_the_seeds_whose_matched_region_is_the_spots() -> None:
    regions = np.array([0, 0, 0, 1, 1, 1])
    one_moved = np.array([1, 1, 1, 0, 0, 1])
    found = seed_agreement(regions, [regions, one_moved, one_moved, regions])
    np.testing.assert_array_equal(found, [1, 1, 1, 1, 1, 0.5])


def test_a_region_without_partner_agrees_nowhere() -> None:
    regions = np.array([0, 0, 0, 0, 1, 1])
    divided = np.array([0, 0, 0, 2, 1, 1])
    np.testing.assert_array_equal(seed_agreement(regions, [divided]), [1, 1, 1, 0, 1, 1])
    np.testing.assert_array_equal(seed_agreement(divided, [regions]), [1, 1, 1, 0, 1, 1])


def test_spots_left_out_have_no_confidence_and_count_nowhere() -> None:
    regions = np.array([0, 0, 1, 1, keys.NO_REGION])
    found = seed_agreement(regions, [np.array([1, 1, 0, 0, keys.NO_REGION])])
    np.testing.assert_array_equal(found, [1, 1, 1, 1, np.nan])


@given(PARTITION, st.lists(PARTITION, min_size=1, max_size=3), st.permutations(range(4)))
def test_numbering_and_order_of_the_seeds_do_not_matter(
    regions: np.ndarray, partitions: list[np.ndarray], renamed: list[int]
) -> None:
    found = seed_agreement(regions, partitions)
    shares = found.astype(float) * len(partitions)
    np.testing.assert_allclose(shares, shares.round(), atol=1e-5)
    again = seed_agreement(regions, [np.array(renamed)[p] for p in reversed(partitions)])
    # Where two ways of matching are equally good either may be taken: as many spots agree.
    np.testing.assert_allclose(again.sum(), found.sum(), rtol=1e-5)


@given(PARTITION, PARTITION)
def test_no_other_way_of_matching_lets_more_spots_agree(regions: np.ndarray, partition: np.ndarray) -> None:
    best = max((np.array(names)[partition] == regions).sum() for names in itertools.permutations(range(4)))
    assert seed_agreement(regions, [partition]).sum() == best

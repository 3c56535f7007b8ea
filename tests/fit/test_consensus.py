import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.errors import SencaError
from senca_ray.fit.consensus import agreement, consensus, stability, typical
from senca_ray.fit.regions import renumber


@st.composite
def partitions(draw: st.DrawFn) -> list[np.ndarray]:
    """2 to 5 partitions of 3 to 25 spots into at most 5 regions."""
    n_spots = draw(st.integers(3, 25))
    one = st.lists(st.integers(0, 4), min_size=n_spots, max_size=n_spots)
    return [np.array(draw(one), dtype=np.int16) for _ in range(draw(st.integers(2, 5)))]


@settings(max_examples=60, deadline=None)
@given(partitions(), st.integers(1, 5))
def test_identical_partitions_give_it_back(given_partitions: list[np.ndarray], seeds: int) -> None:
    regions = renumber(given_partitions[0])
    found = consensus([regions] * seeds, k=len(np.unique(regions)))
    np.testing.assert_array_equal(found, regions)
    assert found.dtype == np.int16
    assert seeds == 1 or stability(agreement([regions] * seeds)) == 1


@settings(max_examples=60, deadline=None)
@given(partitions(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_neither_numbering_nor_order_of_the_partitions_matters(
    given_partitions: list[np.ndarray], k: int, random: object
) -> None:
    renamed = [np.array(random.sample(range(100), 5))[p] for p in given_partitions]  # type: ignore[attr-defined]
    random.shuffle(renamed)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(consensus(renamed, k), consensus(given_partitions, k))
    assert stability(agreement(renamed)) == stability(agreement(given_partitions))


@settings(max_examples=60, deadline=None)
@given(partitions(), st.integers(1, 3))
def test_as_many_regions_as_asked_for_and_spots_never_told_apart_stay_together(
    given_partitions: list[np.ndarray], k: int
) -> None:
    groups = np.unique(np.stack(given_partitions), axis=1, return_inverse=True)[1].ravel()
    found = consensus(given_partitions, k)
    assert len(np.unique(found)) == min(k, len(np.unique(groups)))
    assert all(len(np.unique(found[groups == group])) == 1 for group in np.unique(groups))


@pytest.mark.parametrize("patterns", [3, 2000])
@settings(max_examples=30, deadline=None)
@given(partitions(), st.integers(1, 3), st.randoms(use_true_random=False))
def test_of_a_large_section_too(
    patterns: int, given_partitions: list[np.ndarray], k: int, random: object
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("senca_ray.fit.consensus.PATTERNS", patterns)
        found = consensus(given_partitions, k, keys.LARGE)
        renamed = [np.array(random.sample(range(100), 5))[p] for p in given_partitions]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(consensus(renamed, k, keys.LARGE), found)
    groups = np.unique(np.stack(given_partitions), axis=1, return_inverse=True)[1].ravel()
    assert len(np.unique(found)) == min(k, len(np.unique(groups)))
    assert all(len(np.unique(found[groups == group])) == 1 for group in np.unique(groups))


@pytest.mark.parametrize("patterns", [30, 2000])
def test_the_large_form_agrees_with_the_exact_one(patterns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("senca_ray.fit.consensus.PATTERNS", patterns)
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [90, 60, 30])
    noisy = [np.where(rng.random(180) < 0.2, rng.integers(0, 3, 180), truth) for _ in range(7)]
    large = consensus(noisy, 3, keys.LARGE)
    assert adjusted_rand_score(truth, large) > 0.9
    assert adjusted_rand_score(consensus(noisy, 3), large) > 0.9


def test_the_majority_wins() -> None:
    right, wrong = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 1, 1])
    np.testing.assert_array_equal(consensus([right, wrong, right], 2), right)
    np.testing.assert_array_equal(consensus([wrong, right, wrong], 2), [1, 1, 0, 0, 0, 0])


def test_consensus_of_noisy_partitions_is_nearer_to_the_truth_than_they_are() -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 30)
    noisy = [np.where(rng.random(90) < 0.3, rng.integers(0, 3, 90), truth) for _ in range(9)]
    found = adjusted_rand_score(truth, consensus(noisy, 3))
    assert found > 0.9 > max(adjusted_rand_score(truth, p) for p in noisy)


def test_stability_is_the_mean_over_pairs() -> None:
    a, b, c = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1])
    pairs = [adjusted_rand_score(*pair) for pair in ((a, b), (a, c), (b, c))]
    assert stability(agreement([a, b, c])) == pytest.approx(sum(pairs) / 3)


def test_what_cannot_be_combined_is_said() -> None:
    regions = np.array([0, 1, 1])
    with pytest.raises(SencaError, match=r"k = 4 found; expected 1 to 3"):
        consensus([regions, regions], 4)
    with pytest.raises(SencaError, match="partitions of 2 and 3 spots found"):
        consensus([regions, regions[:2]], 1)
    with pytest.raises(SencaError, match="partitions of no spots found"):
        consensus([], 1)
    with pytest.raises(SencaError, match="expected two or more seeds"):
        stability(agreement([regions]))


def test_the_typical_partition_agrees_best_with_the_others() -> None:
    a = np.repeat([0, 1, 2], 20)
    near, far = a.copy(), np.tile([0, 1, 2], 20)
    near[0] = 1
    assert typical(agreement([far, near, a])) == 2 or typical(agreement([far, near, a])) == 1
    sums = [sum(adjusted_rand_score(x, y) for y in (far, near, a) if y is not x) for x in (far, near, a)]
    assert typical(agreement([far, near, a])) == int(np.argmax(sums))


def test_of_equally_typical_partitions_the_first_is_taken_and_one_alone_is_typical() -> None:
    a, b = np.repeat([0, 1], 10), np.tile([0, 1], 10)
    assert typical(agreement([a, b])) == 0 == typical(agreement([b, a]))
    assert typical(agreement([a])) == 0

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score

from senca_ray import keys
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.scores import chaos, label_f1, pair_ami, pas, score, silhouette

PAIR = ("core", "edge")


def section(xy: np.ndarray, labels: list[str] | np.ndarray | None) -> Sample:
    distances = cdist(xy, xy)
    np.fill_diagonal(distances, np.inf)
    return Sample(
        name="T1",
        patient="T",
        label_source=keys.SIMULATED,
        fingerprint="0",
        encoder="none",
        genes=("G",),
        counts=csr_matrix((len(xy), 1), dtype=np.int32),
        total_counts=np.zeros(len(xy)),
        target_sum=1e4,
        xy=xy,
        neighbors=np.argsort(distances, axis=1, kind="stable")[:, :10].astype(np.int32),
        image_features=None,
        labels=None if labels is None else np.asarray(labels),
    )


def ari_by_pairs(labels: list[int], regions: list[int]) -> float:
    """Eq. 5 with every binomial counted as pairs of spots."""
    pairs = list(combinations(range(len(labels)), 2))
    same_label = sum(labels[i] == labels[j] for i, j in pairs)
    same_region = sum(regions[i] == regions[j] for i, j in pairs)
    both = sum(labels[i] == labels[j] and regions[i] == regions[j] for i, j in pairs)
    expected = same_label * same_region / len(pairs)
    return (both - expected) / ((same_label + same_region) / 2 - expected)


@pytest.fixture
def scored() -> tuple[Sample, np.ndarray, np.ndarray]:
    """A section of 48 spots with every fifth spot undetermined, an embedding and regions."""
    rng = np.random.default_rng(5)
    xy = np.array([(x, y) for y in range(6) for x in range(8)], dtype=float)
    labels = np.array(["core", "edge", "fat"], dtype=object)[rng.integers(0, 3, 48)]
    labels[::5] = keys.UNDETERMINED
    return section(xy, labels), rng.normal(size=(48, 4)), rng.integers(0, 4, 48).astype(np.int16)


def test_label_scores_leave_undetermined_out(scored: tuple[Sample, np.ndarray, np.ndarray]) -> None:
    sample, embedding, regions = scored
    result = score(sample, embedding, regions, PAIR)
    known = sample.labels != keys.UNDETERMINED
    labels = sample.labels[known].tolist()
    assert result[keys.N_SPOTS] == 48
    assert result[keys.N_SCORED] == known.sum() == 38
    assert result[keys.ARI] == pytest.approx(adjusted_rand_score(labels, regions[known]))
    assert result[keys.ARI] == pytest.approx(ari_by_pairs(labels, regions[known].tolist()))
    assert result[keys.ARI] != pytest.approx(adjusted_rand_score(sample.labels.tolist(), regions))
    assert result[keys.NMI] == pytest.approx(normalized_mutual_info_score(labels, regions[known]))
    assert set(result[keys.LABEL_F1]) == {"core", "edge", "fat"}


def test_label_free_scores_use_every_spot(scored: tuple[Sample, np.ndarray, np.ndarray]) -> None:
    sample, embedding, regions = scored
    result = score(sample, embedding, regions, PAIR)
    assert result[keys.SILHOUETTE] == pytest.approx(silhouette_score(embedding, regions))
    assert result[keys.CHAOS] == chaos(sample.xy, regions)
    assert result[keys.PAS] == pas(sample.nearest(10), regions)


def test_every_score_has_its_place_in_the_registry(scored: tuple[Sample, np.ndarray, np.ndarray]) -> None:
    expected = {keys.ARI, keys.NMI, keys.SILHOUETTE, keys.CHAOS, keys.PAS}
    expected |= {keys.N_SPOTS, keys.N_SCORED, keys.LABEL_F1, keys.PAIR_AMI}
    assert set(score(*scored)) == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=12, max_size=40))
def test_ari_is_eq_5(spots: list[tuple[int, int]]) -> None:
    labels, regions = (list(column) for column in zip(*spots, strict=True))
    names = [f"label {label}" for label in labels]
    xy = np.column_stack([np.arange(len(spots)), np.zeros(len(spots))])
    ari = score(section(xy, names), xy, np.array(regions))[keys.ARI]
    if len(set(labels)) == 1:
        assert math.isnan(ari)
    else:
        assert ari == pytest.approx(ari_by_pairs(labels, regions), abs=1e-12)


def test_without_labels_only_label_free_scores_are_numbers(
    scored: tuple[Sample, np.ndarray, np.ndarray],
) -> None:
    sample, embedding, regions = scored
    result = score(section(sample.xy, None), embedding, regions, PAIR)
    assert math.isnan(result[keys.ARI])
    assert math.isnan(result[keys.NMI])
    assert result[keys.LABEL_F1] is None
    assert result[keys.PAIR_AMI] is None
    assert result[keys.N_SCORED] == 0
    assert result[keys.CHAOS] > 0
    assert not math.isnan(result[keys.SILHOUETTE])


def test_nothing_determined_is_no_score(scored: tuple[Sample, np.ndarray, np.ndarray]) -> None:
    sample, embedding, regions = scored
    result = score(section(sample.xy, [keys.UNDETERMINED] * 48), embedding, regions, PAIR)
    assert math.isnan(result[keys.ARI])
    assert result[keys.LABEL_F1] == {}
    assert result[keys.PAIR_AMI] is None


def test_arrays_of_another_section_are_refused(scored: tuple[Sample, np.ndarray, np.ndarray]) -> None:
    sample, embedding, regions = scored
    with pytest.raises(SencaError, match=r"T1: 47 regions and 48 embedding rows found; .* 48 spots"):
        score(sample, embedding, regions[1:])


@pytest.mark.parametrize("regions", [[0, 0, 0], [0, 1, 2]])
def test_silhouette_is_undefined_for_one_region_and_for_single_spots(regions: list[int]) -> None:
    assert math.isnan(silhouette(np.eye(3), np.array(regions)))


def test_chaos_by_hand() -> None:
    # On a line at 0, 1, 3, 7, 20: region 0 is {0, 3, 7} with nearest distances 3, 3, 4; region 1 is
    # {1, 20} with 19, 19; together 48 over 5 spots.
    xy = np.array([[0, 0], [1, 0], [3, 0], [7, 0], [20, 0]], dtype=float)
    assert chaos(xy, np.array([0, 1, 0, 0, 1])) == pytest.approx(48 / 5)


def test_a_region_of_one_spot_adds_nothing_to_chaos() -> None:
    # Region 0 is {0, 1, 2}: three times 1; the spot at 9 is alone; 3 over 4 spots.
    xy = np.array([[0, 0], [1, 0], [2, 0], [9, 0]], dtype=float)
    assert chaos(xy, np.array([0, 0, 0, 1])) == pytest.approx(3 / 4)


def test_pas_by_hand() -> None:
    # Of 13 spots, spot 0 differs from 6 of its 10 neighbours, spot 1 from 5, the rest from none of
    # theirs (their lists name spots of their own region only).
    regions = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1])
    own = {0: [1, 2, 3, 4, 5, 6] * 2, 1: [7, 8, 9, 10, 11, 12] * 2}
    neighbors = np.array([own[region][:10] for region in regions])
    neighbors[0] = [2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    neighbors[1] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert pas(neighbors, regions) == pytest.approx(1 / 13)


def test_scattered_regions_are_less_coherent() -> None:
    xy = np.array([(x, y) for y in range(8) for x in range(8)], dtype=float)
    neighbors = section(xy, None).nearest(10)
    halves = (xy[:, 0] >= 4).astype(int)
    mixed = np.random.default_rng(0).permutation(halves)
    assert pas(neighbors, halves) < pas(neighbors, mixed)
    assert chaos(xy, halves) == 1 < chaos(xy, mixed)


def test_label_f1_by_hand() -> None:
    # a: 3 spots, 2 in region 0 (4 spots: F1 = 4/7), 1 in region 1 (1 spot: 2/4). b: 2 in region 0: 4/6.
    labels = np.array(["a", "a", "a", "b", "b"])
    regions = np.array([0, 0, 1, 0, 0])
    assert label_f1(labels, regions) == pytest.approx({"a": 4 / 7, "b": 4 / 6})


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4)), min_size=1, max_size=30))
def test_label_f1_is_the_best_over_regions(spots: list[tuple[str, int]]) -> None:
    found = label_f1(np.array([s[0] for s in spots]), np.array([s[1] for s in spots]))
    for label in {s[0] for s in spots}:
        best = 0.0
        for region in {s[1] for s in spots}:
            true = sum(s == (label, region) for s in spots)
            false = sum((s[0] == label) != (s[1] == region) for s in spots)
            best = max(best, 2 * true / (2 * true + false))
        assert found[label] == pytest.approx(best)


def test_a_pair_told_apart_scores_1_even_when_split_further() -> None:
    labels = np.repeat(["core", "edge", "fat"], 10)
    regions = np.concatenate([np.repeat([0, 3], 5), np.repeat([1, 2], 5), np.repeat([0, 1], 5)])
    assert pair_ami(labels, regions, PAIR) == pytest.approx(1)


def test_a_pair_in_one_region_scores_0() -> None:
    labels = np.repeat(["core", "edge", "fat"], 10)
    assert pair_ami(labels, np.repeat([0, 0, 1], 10), PAIR) == 0


def test_a_pair_in_random_regions_scores_about_0() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(["core", "edge"], 300)
    values = [pair_ami(labels, rng.integers(0, 5, 600), PAIR) for _ in range(20)]
    assert abs(np.mean([value for value in values if value is not None])) < 0.01


def test_a_pair_with_an_absent_label_has_no_score() -> None:
    labels = np.array(["core", "fat", "fat"])
    assert pair_ami(labels, np.array([0, 1, 1]), PAIR) is None


def test_a_pair_names_two_labels() -> None:
    with pytest.raises(SencaError, match="'core' twice found; expected two different labels"):
        pair_ami(np.array(["core"]), np.array([0]), ("core", "core"))


def test_regions_that_come_from_no_embedding_have_no_silhouette(
    scored: tuple[Sample, np.ndarray, np.ndarray],
) -> None:
    sample, embedding, regions = scored
    with_one, without = score(sample, embedding, regions), score(sample, None, regions)
    assert np.isnan(without.pop(keys.SILHOUETTE)) and not np.isnan(with_one.pop(keys.SILHOUETTE))
    assert without == with_one

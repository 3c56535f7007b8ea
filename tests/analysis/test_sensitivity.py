"""What the ranking owes to the protocol: each reading against the study's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from analysis.result_frames import frame
from analysis.test_benchmark_summary import agreed, fits, study
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from senca_ray import keys
from senca_ray.analysis.sensitivity import AS_REPORTED, SENSITIVITY_COLUMNS, sensitivity

SAMPLES = ("A1", "A2", "B1", "C1")
LEVELS = {"senca": 0.4, "untrained": 0.3, "smoothed-pca": 0.2, "coordinates": 0.1}
PLAIN = ["senca (ward)", "untrained (ward)", "smoothed-pca (kmeans)", "coordinates (kmeans)"]

REFINED, DROPPED, SCORED, AUTO = (
    {keys.PROTOCOL: "unscored+refined"},
    {keys.PROTOCOL: "dropped"},
    {keys.PROTOCOL: "scored"},
    {keys.K_POLICY: "auto"},
)
READINGS = {
    "refined": REFINED,
    "undetermined dropped": DROPPED,
    "undetermined scored": SCORED,
    "k policy auto": AUTO,
}


def read(levels: dict[str, float], seeds: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Rows of methods that score the same on every section and with every seed."""
    return [
        row
        for method, level in levels.items()
        for row in fits(method, {s: [level] * seeds for s in SAMPLES}, **changes)
    ]


def table(*groups: list[dict[str, Any]], **changes: Any) -> pd.DataFrame:
    return sensitivity(frame(*groups), study(**changes))


def one(found: pd.DataFrame, reading: str) -> dict[str, Any]:
    (row,) = found[found["reading"] == reading].to_dict("records")
    return row


def test_a_study_read_in_one_way_only_has_no_such_table() -> None:
    found = table(read(LEVELS, seeds=4), agreed("senca", {"A1": 0.9}))
    assert found.empty and tuple(found.columns) == SENSITIVITY_COLUMNS


def test_readings_that_say_the_same_agree() -> None:
    found = table(read(LEVELS), *(read(LEVELS, **reading) for reading in READINGS.values()))
    assert tuple(found.columns) == SENSITIVITY_COLUMNS
    assert found["reading"].tolist() == [AS_REPORTED, *READINGS]
    assert (found["agreement"] == 1).all() and (found["moved"] == "").all()
    assert (found["n_methods"] == 4).all() and (found["best"] == "senca (ward)").all()
    assert (found["reference_rank"] == 1).all()
    np.testing.assert_allclose(found["reference_mean"], 0.4)


def test_a_reversed_order_is_the_opposite() -> None:
    opposite = dict(zip(LEVELS, reversed(LEVELS.values()), strict=True))
    found = one(table(read(LEVELS), read(opposite, **DROPPED)), "undetermined dropped")
    assert found["agreement"] == -1
    assert (found["best"], found["best_mean"]) == ("coordinates (kmeans)", pytest.approx(0.4))
    assert (found["reference_rank"], found["reference_mean"]) == (4, pytest.approx(0.1))
    # The first and the last moved equally far.
    assert found["moved"] in ("senca (ward)", "coordinates (kmeans)")
    assert {found["moved_from"], found["moved_to"]} == {1, 4}


def test_who_moved_by_most_places_is_named() -> None:
    """untrained falls from 2 to 4, those below it rise by one place."""
    fallen = LEVELS | {"untrained": 0.05}
    found = one(table(read(LEVELS), read(fallen, **REFINED)), "refined")
    assert (found["moved"], found["moved_from"], found["moved_to"]) == ("untrained (ward)", 2, 4)
    expected = stats.kendalltau(list(LEVELS.values()), list(fallen.values())).statistic
    assert found["agreement"] == pytest.approx(expected) == pytest.approx(1 / 3)


def test_only_methods_that_were_read_both_ways_are_compared() -> None:
    """One that could not be read otherwise neither takes a place nor loses one."""
    some = {name: level for name, level in LEVELS.items() if name != "untrained"}
    found = table(read(LEVELS), read(some, **DROPPED))
    assert one(found, AS_REPORTED)["n_methods"] == 4
    row = one(found, "undetermined dropped")
    assert (row["n_methods"], row["agreement"], row["moved"]) == (3, 1, "")
    without = one(
        table(read(LEVELS), read(LEVELS | {"senca": 0.0}, **DROPPED), reference="coordinates"),
        "undetermined dropped",
    )
    assert without["reference_rank"] == 3


def test_a_reference_that_was_not_read_otherwise_has_no_rank_there() -> None:
    some = {name: level for name, level in LEVELS.items() if name != "senca"}
    row = one(table(read(LEVELS), read(some, **SCORED)), "undetermined scored")
    assert pd.isna(row["reference_rank"]) and pd.isna(row["reference_mean"]) and row["n_methods"] == 3


def test_methods_with_fewer_sections_are_no_part_of_a_ranking() -> None:
    few = [r for r in read({"untrained": 0.9}) if r[keys.SAMPLE] == "C1"]
    rest = {name: level for name, level in LEVELS.items() if name != "untrained"}
    found = one(table(read(rest), few, read(LEVELS, **REFINED)), AS_REPORTED)
    assert found["n_methods"] == 3 and found["best"] == "senca (ward)"


def test_failed_rows_and_the_consensus_are_no_part_of_it() -> None:
    found = table(
        read(LEVELS),
        read(LEVELS, **DROPPED),
        fits("senca", {s: [None] for s in SAMPLES}, **SCORED),
        agreed("coordinates", dict.fromkeys(SAMPLES, 0.99)),
    )
    assert found["reading"].tolist() == [AS_REPORTED, "undetermined dropped"]
    assert (found["best"] == "senca (ward)").all()


def test_means_are_over_units_as_in_the_table() -> None:
    levels = {"A1": [0.0], "A2": [0.2], "B1": [0.3], "C1": [0.8]}
    rows = frame(fits("senca", levels), fits("senca", levels, **DROPPED))
    by_patient, by_section = (sensitivity(rows, study(unit=u)) for u in ("patient", "section"))
    assert by_patient["reference_mean"].tolist() == pytest.approx([1.2 / 3] * 2)
    assert by_section["reference_mean"].tolist() == pytest.approx([1.3 / 4] * 2)


def test_blocks_have_a_table_each() -> None:
    image = {keys.MODALITY: keys.RNA_IMAGE}
    swapped = LEVELS | {"senca": 0.0}
    found = table(
        read(LEVELS), read(LEVELS, **DROPPED), read(swapped, **image), read(LEVELS, **image, **DROPPED)
    )
    assert found["block"].tolist() == ["annotated, without image"] * 2 + ["annotated, with image"] * 2
    without, with_image = (rows for _, rows in found.groupby("block", sort=False))
    assert (
        one(without, AS_REPORTED)["reference_rank"] == 1 == one(without, "undetermined dropped")["agreement"]
    )
    assert one(with_image, AS_REPORTED)["reference_rank"] == 4
    assert one(with_image, "undetermined dropped")["agreement"] == 0


def test_the_second_half_of_the_seeds_is_compared_with_the_first() -> None:
    rows = []
    for method, level in LEVELS.items():
        later = 0.5 - level  # the order is reversed from the third seed on
        rows.append(fits(method, {s: [level, level, later, later, later] for s in SAMPLES}))
    found = table(*rows, read(LEVELS, **DROPPED), seeds=[0, 1, 2, 3, 4])
    row = one(found, "seeds 2 to 4 against seeds 0 to 1")
    assert row["agreement"] == -1 and row["best"] == "coordinates (kmeans)"
    two = table(
        *(fits(m, {s: [v, 0.5 - v] for s in SAMPLES}) for m, v in LEVELS.items()), read(LEVELS, **AUTO)
    )
    assert one(two, "seed 1 against seed 0")["agreement"] == -1
    single = table(read(LEVELS), read(LEVELS, **DROPPED))
    assert not single["reading"].str.contains("seed").any()


@pytest.mark.parametrize(
    ("changes", "own", "other", "words"),
    [
        ({"undetermined": "dropped"}, DROPPED, {}, "undetermined unscored"),
        ({"refined": True}, REFINED, {}, "not refined"),
        ({"k_policy": "auto"}, AUTO, {}, "k policy labels"),
        ({"k_policy": "fixed:4"}, {keys.K_POLICY: "fixed:4"}, AUTO, "k policy auto"),
    ],
)
def test_readings_are_told_from_the_study_s_own(
    changes: dict[str, Any], own: dict[str, Any], other: dict[str, Any], words: str
) -> None:
    opposite = dict(zip(LEVELS, reversed(LEVELS.values()), strict=True))
    found = table(read(LEVELS, **own), read(opposite, **other), **changes)
    assert found["reading"].tolist() == [AS_REPORTED, words]
    assert found["agreement"].tolist() == [1, -1]


def test_a_reading_that_shares_no_method_with_the_study_s_own_is_passed_over() -> None:
    """Each of two methods failed on one section with one of two seeds: the study still has to end."""
    lost = fits("senca", {s: [0.4, None if s == "C1" else 0.4] for s in SAMPLES})
    other = fits("coordinates", {s: [None if s == "B1" else 0.1, 0.1] for s in SAMPLES})
    found = table(lost, other, read({"senca": 0.4}, **DROPPED))
    assert found["reading"].tolist() == [AS_REPORTED, "undetermined dropped"]


def test_means_over_different_sections_are_not_ranked() -> None:
    """senca lacks the hard section, coordinates an easy one; on those that both have, senca is better."""
    hard = {"A1": 0.0, "B1": 0.5, "C1": 0.5, "D1": 0.6}
    rows = [
        fits("senca", {s: [v + 0.1] for s, v in hard.items() if s != "D1"}),
        fits("coordinates", {s: [v] for s, v in hard.items() if s != "A1"}),
        read({"senca": 0.4}, **DROPPED),
    ]
    found = one(table(*rows), AS_REPORTED)
    assert found["n_methods"] < 2 or found["best"] == "senca (ward)"


def test_the_reference_is_followed_as_it_is_usually_clustered() -> None:
    rows = [read(LEVELS), read(LEVELS, **DROPPED), read({"smoothed-pca": 0.9}, clustering="gmm-tied")]
    found = one(table(*rows, reference="smoothed-pca"), AS_REPORTED)
    assert found["reference_mean"] == pytest.approx(0.2) and found["reference_rank"] == 4


def test_the_reference_may_be_one_clustering_of_a_method() -> None:
    rows = [read(LEVELS), read(LEVELS, **DROPPED), read({"smoothed-pca": 0.9}, clustering="gmm-tied")]
    found = one(table(*rows, reference="smoothed-pca:gmm-tied"), AS_REPORTED)
    assert found["reference_mean"] == pytest.approx(0.9) and found["reference_rank"] == 1


@settings(max_examples=40, deadline=None)
@given(
    first=st.lists(st.sampled_from((0.1, 0.2, 0.3, 0.4)), min_size=4, max_size=4),
    second=st.lists(st.sampled_from((0.1, 0.2, 0.3, 0.4)), min_size=4, max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_ranks_are_those_of_the_means_in_whatever_order_rows_come(
    first: list[float], second: list[float], order: Any
) -> None:
    before, after = (dict(zip(LEVELS, levels, strict=True)) for levels in (first, second))
    rows = frame(read(before), read(after, **DROPPED))
    shuffled = list(range(len(rows)))
    order.shuffle(shuffled)
    found, again = (sensitivity(r, study()) for r in (rows, rows.iloc[shuffled]))
    pd.testing.assert_frame_equal(found, again)
    row = one(found, "undetermined dropped")
    assert row["best_mean"] == pytest.approx(max(second))
    assert row["reference_rank"] == 1 + sum(v > after["senca"] for v in second)
    places = [[1 + sum(v > mine for v in side) for mine in side] for side in (first, second)]
    jumps = dict(zip(PLAIN, np.abs(np.subtract(*places)).tolist(), strict=True))
    if row["moved"]:
        assert jumps[row["moved"]] == max(jumps.values()) == abs(row["moved_from"] - row["moved_to"])
    else:
        assert max(jumps.values()) == 0
    if len(set(first)) > 1 and len(set(second)) > 1:
        assert row["agreement"] == pytest.approx(stats.kendalltau(first, second).statistic)
    else:
        assert pd.isna(row["agreement"])

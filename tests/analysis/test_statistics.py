from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from senca_ray import keys
from senca_ray.analysis.statistics import (
    average_within_patients,
    average_within_sections,
    benjamini_hochberg,
    compare_sections,
    correct_family,
    holm,
    one_sample,
    paired_comparison,
    paired_differences,
    paired_test,
    remark,
)

# Scores on a grid of a thousandth: differences are then equal or clearly different, never float noise.
SCORES = st.integers(-1000, 1000).map(lambda i: i / 1000)
# An exact Wilcoxon test with ties goes through every sign pattern, so few patients and few examples.
FEW = settings(max_examples=30, deadline=None)
PAIRS = st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=7)


def by_patient(values: list[float]) -> pd.Series:
    return pd.Series(values, index=[f"P{i}" for i in range(len(values))], dtype=float)


def scores_of(*rows: tuple[str, str, int, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[keys.PATIENT, keys.SAMPLE, keys.SEED, keys.ARI])


def test_paired_comparison_by_hand() -> None:
    # Differences 0.1, 0.3, 0.2: mean 0.2, sd 0.1, t = 0.2 / (0.1 / sqrt 3) = 3.4641 with 2 degrees of
    # freedom, p = 1 - t / sqrt(2 + t**2) = 1 - 3.4641 / sqrt 14; Wilcoxon: all of one sign, p = 2 / 2**3.
    test = paired_comparison(by_patient([0.5, 0.6, 0.4]), by_patient([0.4, 0.3, 0.2]))
    assert test.n == test.wins == 3
    assert test.mean_difference == pytest.approx(0.2)
    assert test.t_p == pytest.approx(1 - 3.4641016 / math.sqrt(14))
    assert test.wilcoxon_p == pytest.approx(0.25)
    assert test.remark == ""


@FEW
@given(PAIRS)
def test_p_values_are_those_of_scipy_and_statsmodels(pairs: list[tuple[float, float]]) -> None:
    values, reference = (by_patient(list(column)) for column in zip(*pairs, strict=True))
    differences = np.round(values - reference, 12)
    test = paired_comparison(values, reference)
    assert test.n == len(pairs)
    assert test.wins == sum(v > r for v, r in pairs)
    assert test.mean_difference == pytest.approx(np.mean(values) - np.mean(reference), abs=1e-12)
    if not differences.any():
        assert test.t_p == test.wilcoxon_p == 1
        return
    assert test.wilcoxon_p == pytest.approx(stats.wilcoxon(differences).pvalue)
    if differences.nunique() == 1:
        assert math.isnan(test.t_p)
        return
    assert test.t_p == pytest.approx(stats.ttest_rel(values, reference).pvalue, rel=1e-6)
    assert test.t_p == pytest.approx(DescrStatsW(differences).ttest_mean(0)[1], rel=1e-6)


@FEW
@given(PAIRS, SCORES)
def test_a_shift_of_all_values_changes_nothing(pairs: list[tuple[float, float]], shift: float) -> None:
    values, reference = (by_patient(list(column)) for column in zip(*pairs, strict=True))
    here, there = paired_comparison(values, reference), paired_comparison(values + shift, reference + shift)
    assert (here.n, here.wins, here.remark) == (there.n, there.wins, there.remark)
    for name in ("mean_difference", "t_p", "wilcoxon_p"):
        assert getattr(here, name) == pytest.approx(getattr(there, name), nan_ok=True)


@FEW
@given(PAIRS)
def test_sides_swapped_give_the_same_p(pairs: list[tuple[float, float]]) -> None:
    values, reference = (by_patient(list(column)) for column in zip(*pairs, strict=True))
    here, there = paired_comparison(values, reference), paired_comparison(reference, values)
    assert here.mean_difference == pytest.approx(-there.mean_difference)
    assert here.t_p == pytest.approx(there.t_p, nan_ok=True)
    assert here.wilcoxon_p == pytest.approx(there.wilcoxon_p)


def test_wilcoxon_is_exact_for_few_patients_with_ties_and_zeros() -> None:
    # Differences 0, 1, 1, 2, -1 (tenths): without the zero the ranks are 2, 2, 4 against 2. Of the 16
    # sign patterns, those with a rank sum of 8 or more on one side are 1 + 3 (one rank of 2 moved) + 0.
    test = paired_comparison(by_patient([0.5, 0.6, 0.6, 0.7, 0.4]), by_patient([0.5] * 5))
    assert test.wilcoxon_p == pytest.approx(2 * 4 / 16)
    assert test.wins == 3


def test_all_differences_zero_is_p_1() -> None:
    test = paired_comparison(by_patient([0.1, 0.2, 0.3]), by_patient([0.1, 0.2, 0.3]))
    assert (test.t_p, test.wilcoxon_p, test.mean_difference, test.wins) == (1, 1, 0, 0)
    assert test.remark == "all differences are zero"


def test_equal_differences_have_no_t_test() -> None:
    test = paired_comparison(by_patient([0.3, 0.4, 0.5, 0.6]), by_patient([0.1, 0.2, 0.3, 0.4]))
    assert math.isnan(test.t_p)
    assert test.wilcoxon_p == pytest.approx(2 / 2**4)
    assert "the t-test is not defined" in test.remark


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_patients_are_a_remark(n: int) -> None:
    test = paired_comparison(by_patient([0.5] * n), by_patient([0.3] * n))
    assert test.n == n
    assert math.isnan(test.t_p)
    assert math.isnan(test.wilcoxon_p)
    assert test.remark == f"with {n} patient{'s' if n != 1 else ''} no paired test can be run"


def test_only_patients_on_both_sides_are_compared() -> None:
    values = pd.Series({"A": 0.5, "B": 0.6, "C": math.nan, "D": 0.4})
    reference = pd.Series({"B": 0.5, "A": 0.3, "C": 0.9, "E": 0.0})
    test = paired_comparison(values, reference)
    assert (test.n, test.wins) == (2, 2)
    assert test.mean_difference == pytest.approx(0.15)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04: times 3, 2, 1 gives 0.03, 0.06, 0.04, the last raised to 0.06.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])


def test_holm_does_not_count_tests_that_were_not_run() -> None:
    corrected = holm([0.04, math.nan, 0.01])
    assert corrected[[0, 2]] == pytest.approx([0.04, 0.02])
    assert math.isnan(corrected[1])
    assert np.isnan(holm([math.nan])).all()
    assert len(holm([])) == 0


@FEW
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_holm_is_monotone_and_never_below_the_raw_p(pvalues: list[float]) -> None:
    raw, corrected = np.array(pvalues, dtype=float), holm(pvalues)
    run = ~np.isnan(raw)
    np.testing.assert_array_equal(run, ~np.isnan(corrected))
    assert (corrected[run] >= raw[run]).all()
    assert (corrected[run] <= 1).all()
    assert (np.diff(corrected[run][np.argsort(raw[run], kind="stable")]) >= 0).all()


def test_holm_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 7, 30):
        raw = np.round(rng.uniform(0, 0.4, n) ** 2, 3)  # with ties
        np.testing.assert_allclose(holm(raw), multipletests(raw, method="holm")[1])


def test_seeds_then_sections_are_averaged_within_the_patient() -> None:
    # A has sections of 3 seeds (mean 0.2) and 1 seed (0.8): 0.5, not the 0.35 of all four rows.
    frame = scores_of(
        ("A", "A1", 0, 0.1),
        ("A", "A1", 1, 0.2),
        ("A", "A1", 2, 0.3),
        ("A", "A2", 0, 0.8),
        ("B", "B1", 0, 0.4),
    )
    averaged = average_within_patients(frame)
    assert averaged.to_dict() == pytest.approx({"A": 0.5, "B": 0.4})


def test_rows_without_a_score_are_left_out_of_the_average() -> None:
    frame = scores_of(("A", "A1", 0, math.nan), ("A", "A2", 0, 0.8), ("B", "B1", 0, math.nan))
    assert average_within_patients(frame).to_dict() == pytest.approx({"A": 0.8})
    assert len(average_within_patients(frame[:1])) == 0


@FEW
@given(
    st.dictionaries(
        st.tuples(st.sampled_from("AB"), st.integers(1, 3)),
        st.lists(SCORES, min_size=1, max_size=4),
        min_size=1,
    ),
    st.integers(2, 4),
    st.randoms(use_true_random=False),
)
def test_averaging_ignores_order_and_repeated_seeds(
    sections: dict[tuple[str, int], list[float]], times: int, order: object
) -> None:
    rows = [
        (patient, f"{patient}{number}", seed, value)
        for (patient, number), values in sections.items()
        for seed, value in enumerate(values)
    ]
    expected = {
        patient: np.mean([np.mean(values) for (p, _), values in sections.items() if p == patient])
        for patient in {p for p, _ in sections}
    }
    # The same seeds run again in one section must not make that section count more.
    first = rows[0][1]
    more = rows + [row for row in rows if row[1] == first] * (times - 1)
    order.shuffle(more)  # type: ignore[attr-defined]
    assert average_within_patients(scores_of(*more)).to_dict() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "smallest"), [(2, "0.5"), (3, "0.25"), (4, "0.12"), (5, "0.062")])
def test_the_remark_names_the_smallest_p(n: int, smallest: str) -> None:
    text = remark(n)
    assert text.startswith(f"with {n} patients the smallest two-sided Wilcoxon p is {smallest}")
    assert "no difference can be called significant" in text
    assert ("t-test" in text) == (n < 5)
    differences = np.arange(1.0, n + 1)
    assert stats.wilcoxon(differences).pvalue == pytest.approx(2 / 2**n)


def test_the_remark_counts_holms_correction() -> None:
    assert remark(6) == ""
    assert "is 0.031 (0.062 after Holm over 2 tests): no difference" in remark(6, 2)
    assert remark(7, 2) == ""
    assert remark(1) == "with 1 patient no paired test can be run"


def by_section(columns: dict[str, dict[str, float]]) -> pd.DataFrame:
    """Scores a section, indexed by patient (the first letter) and sample."""
    table = pd.DataFrame(columns, dtype=float)
    table.index = pd.MultiIndex.from_arrays(
        [table.index.str[0], table.index], names=[keys.PATIENT, keys.SAMPLE]
    )
    return table


def test_compare_sections_by_hand() -> None:
    # x: A (0.1 + 0.3) / 2 = 0.2 and B 0.4 ahead, C on one side only. y: nothing on the reference's side.
    values = by_section({"x": {"A1": 0.5, "A2": 0.6, "B1": 0.7, "C1": 0.9}, "y": {"A1": 0.5}})
    reference = by_section({"x": {"A1": 0.4, "A2": 0.3, "B1": 0.3, "D1": 0.2}, "y": {"A1": math.nan}})
    (x, apart_x), (y, apart_y) = compare_sections(values, reference)
    assert (x.n, x.wins) == (2, 2)
    assert x.mean_difference == pytest.approx(0.3)
    assert x.t_p == pytest.approx(stats.ttest_1samp([0.2, 0.4], 0).pvalue)
    assert apart_x == ("C1", "D1")
    assert (y.n, apart_y) == (0, ("A1",))
    assert math.isnan(y.mean_difference)


SECTIONS = [f"{patient}{number}" for patient in "ABCDE" for number in (1, 2)]


@FEW
@given(
    st.lists(st.one_of(SCORES, st.just(math.nan)), min_size=10, max_size=10),
    st.lists(st.one_of(SCORES, st.just(math.nan)), min_size=10, max_size=10),
    st.randoms(use_true_random=False),
)
def test_compare_sections_is_the_paired_comparison_of_shared_sections(
    value: list[float], reference: list[float], order: random.Random
) -> None:
    values, references = dict(zip(SECTIONS, value, strict=True)), dict(zip(SECTIONS, reference, strict=True))
    shared = [s for s in SECTIONS if not math.isnan(values[s] + references[s])]
    expected = paired_comparison(
        *(
            pd.Series({s: side[s] for s in shared}, dtype=float).groupby(lambda sample: sample[0]).mean()
            for side in (values, references)
        )
    )
    shuffled = order.sample(SECTIONS, len(SECTIONS))
    left = by_section({"x": values, "same": values})
    right = by_section({"x": {s: references[s] for s in shuffled}, "same": values})
    (found, apart), (same, _) = compare_sections(left, right)
    assert (found.n, found.wins) == (expected.n, expected.wins)
    for name in ("mean_difference", "t_p", "wilcoxon_p"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), nan_ok=True, rel=1e-6)
    one_sided = {s for s in SECTIONS if math.isnan(values[s]) != math.isnan(references[s])}
    assert set(apart) == one_sided
    assert same.wins == 0


def test_averages_are_taken_separately_by_other_columns() -> None:
    frame = scores_of(("A", "A1", 0, 0.1), ("A", "A1", 1, 0.3), ("A", "A2", 0, 0.6), ("B", "B1", 0, 0.5))
    both = pd.concat([frame.assign(x="p"), frame.assign(x="q", ari=frame["ari"] + 1)])
    sections = average_within_sections(both, by=["x"])
    assert sections["p"].to_dict() == pytest.approx({("A", "A1"): 0.2, ("A", "A2"): 0.6, ("B", "B1"): 0.5})
    patients = average_within_patients(both, by=["x"])
    assert patients["p"].to_dict() == pytest.approx({"A": 0.4, "B": 0.5})
    assert patients["q"].to_dict() == pytest.approx({"A": 1.4, "B": 1.5})


def test_a_family_is_corrected_together() -> None:
    nothing = {"t_p": math.nan, "wilcoxon_p": math.nan, "n_paired": 0, "remark": "no score to compare"}
    first = {"t_p": 0.01, "wilcoxon_p": 0.0625, "n_paired": 5, "remark": ""}
    second = {"t_p": 0.04, "wilcoxon_p": 0.0625, "n_paired": 5, "remark": "compared without E1"}
    correct_family([first, second, nothing])
    assert (first["t_p_holm"], second["t_p_holm"]) == pytest.approx((0.02, 0.04))
    assert (first["wilcoxon_p_holm"], second["wilcoxon_p_holm"]) == pytest.approx((0.125, 0.125))
    assert first["remark"].startswith(
        "with 5 patients the smallest two-sided Wilcoxon p is 0.062 (0.12 after"
    )
    assert second["remark"].startswith("compared without E1; with 5 patients")
    assert nothing["remark"] == "no score to compare"
    assert math.isnan(nothing["t_p_holm"])


def test_benjamini_hochberg_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.4: times 4/1, 4/2, 4/3, 4/4 gives 0.04, 0.04, 0.04, 0.4.
    assert benjamini_hochberg([0.4, 0.02, 0.01, 0.03]) == pytest.approx([0.4, 0.04, 0.04, 0.04])
    # Sorted 0.01, 0.04, 0.045, 0.05: 0.04, 0.08, 0.06, 0.05, lowered to the 0.05 on the right of them.
    assert benjamini_hochberg([0.05, 0.045, 0.04, 0.01]) == pytest.approx([0.05, 0.05, 0.05, 0.04])


def test_benjamini_hochberg_does_not_count_tests_that_were_not_run() -> None:
    corrected = benjamini_hochberg([0.04, math.nan, 0.01])
    assert corrected[[0, 2]] == pytest.approx([0.04, 0.02])
    assert math.isnan(corrected[1])
    assert np.isnan(benjamini_hochberg([math.nan])).all()
    assert len(benjamini_hochberg([])) == 0


@FEW
@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=12))
def test_benjamini_hochberg_is_that_of_statsmodels_and_between_raw_and_holm(pvalues: list[float]) -> None:
    raw, corrected = np.array(pvalues, dtype=float), benjamini_hochberg(pvalues)
    run = ~np.isnan(raw)
    np.testing.assert_array_equal(run, ~np.isnan(corrected))
    if run.any():
        np.testing.assert_allclose(corrected[run], multipletests(raw[run], method="fdr_bh")[1])
    assert (corrected[run] >= raw[run]).all()
    assert (corrected[run] <= holm(pvalues)[run] + 1e-12).all()


def section_scores(scores: dict[str, float]) -> pd.Series:
    """A score a section, indexed by patient (the first letter) and sample."""
    return by_section({"score": scores})["score"]


def test_paired_differences_by_hand() -> None:
    values = section_scores({"B1": 0.7, "A1": 0.5, "A2": 0.6, "C1": 0.9, "D1": math.nan})
    reference = section_scores({"A1": 0.4, "A2": 0.3, "B1": 0.9, "D1": 0.2, "E1": 0.1})
    # A1 0.1, A2 0.3, B1 -0.2; C1, D1 and E1 are scored on one side only.
    assert paired_differences(values, reference, "section") == pytest.approx([0.1, 0.3, -0.2])
    assert paired_differences(values, reference) == pytest.approx([0.2, -0.2])
    assert len(paired_differences(values[:0], reference)) == 0
    # In sorted order, also where both sides share another.
    assert paired_differences(values[:2], values[:2] * 0, "section") == pytest.approx([0.5, 0.7])


def test_a_section_counts_the_same_whatever_its_number_of_seeds() -> None:
    # A1: mean of 3 seeds 0.2 against 1 seed 0.1; A2: 1 seed 0.8 against the mean of 2, 0.5. Over the seeds
    # as they come A's difference would be 0.35 - 0.367; over its sections it is (0.1 + 0.3) / 2.
    rows = [("A", "A1", seed, value) for seed, value in enumerate([0.1, 0.2, 0.3])]
    values = average_within_sections(scores_of(*rows, ("A", "A2", 0, 0.8), ("B", "B1", 0, 0.3)))
    reference = average_within_sections(
        scores_of(("A", "A1", 0, 0.1), ("A", "A2", 0, 0.4), ("A", "A2", 1, 0.6), ("B", "B1", 5, 0.4))
    )
    assert paired_differences(values, reference) == pytest.approx([0.2, -0.1])
    assert paired_differences(values, reference, "section") == pytest.approx([0.1, 0.3, -0.1])


def test_differences_of_seeds_not_averaged_are_refused() -> None:
    twice = scores_of(("A", "A1", 0, 0.1), ("A", "A1", 1, 0.2)).set_index([keys.PATIENT, keys.SAMPLE])[
        keys.ARI
    ]
    once = twice[:1]
    for pair in ((twice, once), (once, twice)):
        with pytest.raises(ValueError, match=r"section A1 .* average seeds first"):
            paired_differences(*pair)
    with pytest.raises(ValueError, match="unit 'seed' found; expected one of patient, section"):
        paired_differences(once, once, "seed")


@FEW
@given(st.dictionaries(st.sampled_from(SECTIONS), st.tuples(SCORES, SCORES), min_size=1), st.randoms())
def test_paired_differences_are_those_of_the_paired_comparison(
    sections: dict[str, tuple[float, float]], order: random.Random
) -> None:
    values, reference = (section_scores({s: pair[i] for s, pair in sections.items()}) for i in (0, 1))
    shuffled = reference.sample(frac=1, random_state=order.randrange(100))
    found = paired_test(paired_differences(values, shuffled))
    (expected, _), *_ = compare_sections(values.to_frame(), reference.to_frame())
    for name in ("n", "wins", "remark"):
        assert getattr(found, name) == getattr(expected, name)
    for name in ("mean_difference", "t_p", "wilcoxon_p"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), nan_ok=True, rel=1e-6)
    assert paired_differences(reference, values) == pytest.approx(-paired_differences(values, reference))


def test_remarks_name_the_unit_and_the_test() -> None:
    assert remark(1, unit="section") == "with 1 section no paired test can be run"
    text = remark(3, unit="section", test="sign-flip")
    assert text.startswith("with 3 sections the smallest two-sided sign-flip p is 0.25 and")


def test_one_sample_by_hand() -> None:
    # 0.3, 0.5, 0.4 against 0.2: differences 0.1, 0.3, 0.2, as in the paired case above.
    test = one_sample(np.array([0.3, math.nan, 0.5, 0.4]), 0.2)
    assert (test.n, test.test, test.published_mean) == (3, "one-sample", 0.2)
    assert (test.mean, test.mean_difference) == (pytest.approx(0.4), pytest.approx(0.2))
    assert test.t_p == pytest.approx(1 - 3.4641016 / math.sqrt(14))
    assert test.wilcoxon_p == pytest.approx(0.25)
    assert test.remark.startswith("one-sample test: of the published number only the mean is known")
    assert "with 3 patients the smallest" in test.remark


def test_one_sample_is_that_of_scipy_and_always_says_what_it_is() -> None:
    values = np.random.default_rng(0).normal(0.25, 0.15, 8)
    test = one_sample(values, 0.268)
    assert test.t_p == pytest.approx(stats.ttest_1samp(values, 0.268).pvalue)
    assert test.t_p == pytest.approx(DescrStatsW(values).ttest_mean(0.268)[1])
    assert test.wilcoxon_p == pytest.approx(stats.wilcoxon(values - 0.268).pvalue)
    assert test.remark.endswith("its protocol may differ")


@pytest.mark.parametrize(("n", "count"), [(0, "0 sections"), (1, "1 section")])
def test_one_sample_of_too_few_is_a_remark(n: int, count: str) -> None:
    test = one_sample(np.full(n, 0.3), 0.2, "section")
    assert (test.n, math.isnan(test.t_p), math.isnan(test.wilcoxon_p)) == (n, True, True)
    assert test.remark.startswith("one-sample test")
    assert test.remark.endswith(f"with {count} no test can be run")

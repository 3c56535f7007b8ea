"""A benchmark's table: who is averaged with whom, tested against whom, corrected over what."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from analysis.result_frames import consensus, frame, sweep
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from senca_ray import keys
from senca_ray.analysis.benchmark import (
    BENCHMARK_COLUMNS,
    benchmark_summary,
    main_rows,
    published_beside,
    rankings,
    unit_scores,
)
from senca_ray.analysis.compare import compare_studies
from senca_ray.methods import METHODS

Scores = dict[str, list[float]]

# Three patients, the first with two sections; two seeds each. Means a section in the comments.
REFERENCE = {"A1": [0.4, 0.6], "A2": [0.3, 0.3], "B1": [0.2, 0.4], "C1": [0.6, 0.6]}  # .5 .3 .3 .6
PCA = {"A1": [0.2, 0.4], "A2": [0.4, 0.4], "B1": [0.1, 0.1], "C1": [0.3, 0.3]}  # .3 .4 .1 .3
FAILED: dict[str, Any] = {sample: [None] for sample in REFERENCE}
NULL = {"A1": [0.1], "A2": [0.1], "B1": [0.1], "C1": [0.1]}


def study(**changes: Any) -> dict[str, Any]:
    """What a benchmark's description says that its table depends on."""
    given: dict[str, Any] = {
        "kind": "benchmark",
        "methods": ["senca:ward"],
        "reference": "senca",
        "unit": "patient",
        "seeds": [0, 1],
        "slow_seeds": 3,
        "k_policy": "labels",
        "clustering": "ward",
        "pair": None,
        "undetermined": keys.UNSCORED,
        "refined": False,
        "simulated": False,
    }
    return given | changes


def fits(method: str, scores: dict[str, Any], clustering: str = "", **changes: Any) -> list[dict[str, Any]]:
    """Rows of a method: scores of its seeds by section."""
    used = METHODS[method]
    own = clustering or next(iter(used.clusterings), "ward")
    setting = keys.DEFAULT if used.follows_setting else keys.FIXED
    return sweep(setting, scores, method=method, clustering=own, **{keys.PEAK_MEMORY_MB: 500.0} | changes)


def agreed(method: str, scores: dict[str, float], **changes: Any) -> list[dict[str, Any]]:
    setting = keys.DEFAULT if METHODS[method].follows_setting else keys.FIXED
    return consensus(setting, scores, method=method, **{keys.PEAK_MEMORY_MB: 500.0} | changes)


def summary_of(*groups: list[dict[str, Any]], **changes: Any) -> pd.DataFrame:
    return benchmark_summary(frame(*groups), study(**changes))


def of(summary: pd.DataFrame, method: str, clustering: str = "", block: str = "") -> Any:
    """The one row of a method."""
    found = summary[(summary["method"] == method) & summary["clustering"].str.startswith(clustering)]
    found = found[found["block"].str.startswith(block)]
    assert len(found) == 1, found
    return found.iloc[0]


# --- Numbers -------------------------------------------------------------------------------------------


def test_sections_of_a_patient_are_averaged_before_a_test() -> None:
    """By hand: differences of the patients are -0.05 (mean of -0.2 and 0.1), -0.2 and -0.3."""
    summary = summary_of(fits("senca", REFERENCE), fits("smoothed-pca", PCA), fits("coordinates", NULL))
    assert summary["method"].tolist() == ["senca", "smoothed-pca", "coordinates"]
    model, pca, null = (of(summary, name) for name in summary["method"])
    assert (model["mean_ari"], model["median_ari"]) == pytest.approx((1.3 / 3, 0.4))
    assert (model["n_sections"], model["n_patients"], model["n_seeds"], model["n_failed"]) == (4, 3, 2, 0)
    # Means over patients of the seeds alone: (.35 + .2 + .6) / 3 and (.45 + .4 + .6) / 3.
    assert model["sd_seeds"] == pytest.approx(0.3 / 3 / math.sqrt(2))
    assert (pca["mean_ari"], pca["median_ari"]) == pytest.approx((0.75 / 3, 0.3))
    assert (pca["n_paired"], pca["wins"], pca["unit"]) == (3, 0, "patient")
    assert pca["mean_difference"] == pytest.approx(-0.55 / 3)
    # Student's t with 2 degrees of freedom: p = 1 - t / sqrt(t**2 + 2).
    t = 0.55 / 3 / math.sqrt(0.095 / 6 / 3)
    assert pca["t_p"] == pytest.approx(1 - t / math.sqrt(t * t + 2))
    assert pca["effect_size"] == pytest.approx(-t / math.sqrt(3))
    assert (pca["wilcoxon_p"], pca["sign_flip_p"]) == (0.25, 0.25)  # 2 of 2**3
    t = 1 / 3 / math.sqrt(0.14 / 3 / 2 / 3)
    other = 1 - t / math.sqrt(t * t + 2)
    assert null["t_p"] == pytest.approx(other) and 2 * other < pca["t_p"]
    assert null["t_p_holm"] == pytest.approx(2 * other) == pytest.approx(null["t_p_bh"])
    assert pca["t_p_holm"] == pca["t_p_bh"] == pytest.approx(pca["t_p"])
    assert (pca["wilcoxon_p_holm"], pca["wilcoxon_p_bh"], pca["sign_flip_p_holm"]) == (0.5, 0.25, 0.5)
    assert pca["interval_low"] < pca["mean_difference"] < pca["interval_high"]
    assert "no difference can be called significant" in pca["remark"]


def test_asked_for_each_section_counts_by_itself() -> None:
    """By hand: differences of the sections are -0.2, 0.1, -0.2 and -0.3."""
    summary = summary_of(fits("senca", REFERENCE), fits("smoothed-pca", PCA), unit="section")
    model, pca = of(summary, "senca"), of(summary, "smoothed-pca")
    assert (model["mean_ari"], model["median_ari"]) == pytest.approx((1.7 / 4, 0.4))
    assert (pca["n_paired"], pca["wins"], pca["unit"]) == (4, 1, "section")
    assert pca["mean_difference"] == pytest.approx(-0.15)
    # As far from zero are the 4 of 16 flips that all have one sign, but for the smallest.
    assert (pca["sign_flip_p"], pca["wilcoxon_p"]) == pytest.approx((0.25, 0.25))
    assert pca["t_p"] == pytest.approx(stats.ttest_1samp([-0.2, 0.1, -0.2, -0.3], 0).pvalue)
    assert (pca["n_sections"], pca["n_patients"]) == (4, 3)


def cohort(seed: int) -> pd.DataFrame:
    """Two blocks of sections, some patients with several; four methods, of which one failed once."""
    rng = np.random.default_rng(seed)
    groups = []
    for source, samples in (
        (keys.ANNOTATED, [f"{p}{i}" for p in "ABCDEFG" for i in range(1, 2 + (p in "BE"))]),
        (keys.TRANSFERRED, ["H1", "H2", "J1", "K1", "L1", "M1"]),
    ):
        for method in ("senca", "untrained", "smoothed-pca", "coordinates"):
            for clustering in ("", "leiden"):
                level = rng.normal(0.3, 0.1)
                scores: dict[str, Any] = {s: rng.normal(level, 0.15, 3).tolist() for s in samples}
                if method == "untrained":
                    scores[samples[-1]][1] = None
                if method == "coordinates":
                    del scores[samples[0]]
                groups.append(fits(method, scores, clustering, label_source=source))
            means = {s: rng.normal(level, 0.1) for s in scores}
            groups.append(agreed(method, means, label_source=source))
    return frame(*groups)


@pytest.mark.parametrize(("seed", "unit"), [(0, "patient"), (1, "section")])
def test_the_table_is_that_of_another_way_to_compute_it(seed: int, unit: str) -> None:
    """Pivot tables, scipy on two columns, statsmodels."""
    results = cohort(seed)
    summary = benchmark_summary(results, study(unit=unit)).set_index(["block", "method", "clustering"])
    unit_column = keys.PATIENT if unit == "patient" else keys.SAMPLE
    for source, words in (
        (keys.ANNOTATED, "annotated, without image"),
        (keys.TRANSFERRED, "transferred labels, without image"),
    ):
        rows = results[(results["label_source"] == source) & (results["status"] == "ok")]
        for combined in (False, True):
            part = rows[(rows["clustering"] == "consensus") == combined]
            table = part.pivot_table("ari", ["patient", "sample"], ["method", "clustering"], aggfunc="mean")
            reference = table["senca"]["consensus" if combined else "ward"]
            raw: dict[tuple[str, str], list[float]] = {}
            for key in table:
                found = summary.loc[(words, *key)]
                by_unit = table[key].dropna().groupby(unit_column).mean()
                assert found["mean_ari"] == pytest.approx(by_unit.mean())
                assert found["median_ari"] == pytest.approx(by_unit.median())
                if key == ("senca", reference.name):
                    assert found["is_default"] and math.isnan(found["t_p"]) and found["n_paired"] is pd.NA
                    continue
                both = pd.DataFrame({"own": table[key], "reference": reference}).dropna()
                both = both.groupby(unit_column).mean()
                difference = both["own"] - both["reference"]
                assert not found["is_default"] and found["n_paired"] == len(both)
                assert found["mean_difference"] == pytest.approx(difference.mean())
                assert found["wins"] == (difference > 0).sum()
                assert found["effect_size"] == pytest.approx(difference.mean() / difference.std())
                raw[key] = [
                    stats.ttest_rel(both["own"], both["reference"]).pvalue,
                    stats.wilcoxon(both["own"], both["reference"]).pvalue,
                    stats.permutation_test(
                        (difference.to_numpy(),), np.mean, permutation_type="samples", n_resamples=9_999
                    ).pvalue,
                ]
            for column, name in enumerate(("t_p", "wilcoxon_p", "sign_flip_p")):
                values = [ps[column] for ps in raw.values()]
                got = summary.loc[[(words, *key) for key in raw]]
                np.testing.assert_allclose(got[name], values)
                for method, ending in (("holm", "holm"), ("fdr_bh", "bh")):
                    expected = multipletests(values, method=method)[1]
                    np.testing.assert_allclose(got[f"{name}_{ending}"], expected)


def test_a_family_is_what_a_block_compares_and_the_consensus_another() -> None:
    """Twice the comparisons, twice the correction: those of other families do not count."""
    single = [fits("senca", REFERENCE), fits("smoothed-pca", PCA)]
    means = {s: float(np.mean(v)) for s, v in REFERENCE.items()}
    other = [
        *(fits(m, REFERENCE, label_source=keys.TRANSFERRED) for m in ("senca", "untrained", "coordinates")),
        agreed("senca", means),
        agreed("untrained", {s: v - 0.1 * i for i, (s, v) in enumerate(means.items())}),
        agreed("coordinates", {s: 0.1 + 0.01 * i for i, s in enumerate(means)}),
    ]
    alone, among = summary_of(*single), summary_of(*single, *other)
    pca = of(alone, "smoothed-pca")
    pd.testing.assert_series_equal(pca, of(among, "smoothed-pca"), check_names=False)
    assert pca["t_p_holm"] == pca["t_p_bh"] == pca["t_p"]
    combined = among[among["clustering"] == keys.CONSENSUS]
    assert combined["is_default"].tolist() == (combined["method"] == "senca").tolist()
    tested = combined[~combined["is_default"]]
    np.testing.assert_allclose(tested["t_p_holm"], multipletests(tested["t_p"], method="holm")[1])
    assert among["clustering"].tolist()[:2] == ["ward", "kmeans"]
    assert among["clustering"].tolist()[2:5] == [keys.CONSENSUS] * 3, "consensus rows after the others"


# --- Reference -----------------------------------------------------------------------------------------


def test_the_reference_is_a_method_as_it_is_usually_clustered() -> None:
    summary = summary_of(
        fits("smoothed-pca", PCA),
        fits("smoothed-pca", REFERENCE, "gmm-tied"),
        fits("smoothed-pca", REFERENCE, "ward"),
        fits("senca", REFERENCE),
        reference="smoothed-pca",
    )
    assert summary.loc[summary["is_default"], "clustering"].tolist() == ["kmeans"]
    assert of(summary, "senca")["mean_difference"] == pytest.approx(0.55 / 3)


def test_the_reference_may_be_a_method_with_one_clustering() -> None:
    summary = summary_of(
        fits("smoothed-pca", NULL, "ward"),
        fits("smoothed-pca", PCA),
        fits("senca", REFERENCE),
        agreed("smoothed-pca", {"A1": 0.1, "B1": 0.2, "C1": 0.3}),
        agreed("senca", {"A1": 0.2, "B1": 0.4, "C1": 0.6}),
        reference="smoothed-pca:ward",
    )
    default = summary[summary["is_default"]]
    assert default["clustering"].tolist() == ["ward", keys.CONSENSUS]
    assert of(summary, "smoothed-pca", "kmeans")["mean_difference"] == pytest.approx(0.25 - 0.1)
    assert of(summary, "senca", "consensus")["mean_difference"] == pytest.approx(0.2)


def test_of_a_method_without_clusterings_of_its_own_the_reference_is_the_study_s() -> None:
    """`--clustering average --method senca:ward --method ...`: the main reading of senca is average."""
    summary = summary_of(
        fits("senca", REFERENCE, "average"),
        fits("senca", PCA, "ward"),
        fits("coordinates", NULL),
        clustering="average",
    )
    assert summary.loc[summary["is_default"], "clustering"].tolist() == ["average"]


def test_a_reference_of_a_package_that_is_not_installed_here_is_still_the_reference() -> None:
    """Results go to a colleague, whose report has to be the same."""
    rows = frame(
        sweep(keys.FIXED, REFERENCE, method="elsewhere", clustering="ward", peak_memory_mb=1.0),
        fits("coordinates", NULL),
    )
    summary = benchmark_summary(rows, study(reference="elsewhere"))
    assert of(summary, "elsewhere")["is_default"] and of(summary, "elsewhere")["kind"] == ""


# --- What was not scored -------------------------------------------------------------------------------


def test_a_method_with_fewer_sections_is_compared_over_those_that_both_have_and_says_so() -> None:
    fewer = {s: v for s, v in PCA.items() if s not in ("A2", "C1")}
    summary = summary_of(fits("senca", REFERENCE), fits("smoothed-pca", fewer), fits("coordinates", NULL))
    row = of(summary, "smoothed-pca")
    assert row["n_paired"] == 2 and row["mean_difference"] == pytest.approx(-0.2)
    assert row["mean_ari"] == pytest.approx(0.2) and row["n_sections"] == 2
    assert row["remark"].startswith("compared without A2, C1, scored on one side only")
    assert of(summary, "coordinates")["n_paired"] == 3
    assert "compared without" not in of(summary, "coordinates")["remark"]


def test_what_failed_or_is_missing_comes_last_with_a_remark() -> None:
    partly: dict[str, Any] = {"A1": [0.5, None], "A2": [0.3, 0.3], "B1": [None, None], "C1": [0.6, 0.7]}
    summary = summary_of(
        fits("senca", REFERENCE),
        fits("smoothed-pca", FAILED),
        fits("untrained", partly),
        fits("coordinates", NULL),
    )
    assert summary["method"].tolist() == ["untrained", "senca", "coordinates", "smoothed-pca"]
    gone, some = of(summary, "smoothed-pca"), of(summary, "untrained")
    assert math.isnan(gone["mean_ari"]) and gone["n_failed"] == 4 and gone["n_sections"] == 0
    assert gone["remark"] == "there is no score to compare" and gone["n_paired"] == 0
    assert gone[["t_p", "t_p_holm", "sign_flip_p_bh"]].isna().all()
    assert some["n_failed"] == 3 and some["n_paired"] == 2
    assert some["mean_difference"] == pytest.approx((0.0 + 0.05) / 2)  # A: .5 and .3; C: .65
    # A comparison that was not run is none of the family.
    assert of(summary, "coordinates")["t_p_holm"] == pytest.approx(
        min(1, 2 * of(summary, "coordinates")["t_p"])
    )


def test_a_reference_without_a_score_is_said_to_have_none() -> None:
    summary = summary_of(fits("senca", FAILED), fits("smoothed-pca", PCA))
    row = of(summary, "smoothed-pca")
    assert row["remark"] == "the reference has no score to compare" and row["n_paired"] == 0
    assert of(summary, "senca")["is_default"]


def test_without_labels_there_are_costs_and_no_scores() -> None:
    none = {keys.LABEL_SOURCE: keys.UNLABELLED, keys.K_POLICY: "fixed:4"}
    rows = [r | {keys.ARI: None} for m in ("senca", "coordinates") for r in fits(m, REFERENCE, **none)]
    summary = summary_of(rows, k_policy="fixed:4")
    assert summary["mean_ari"].isna().all() and (summary["seconds"] == 1.0).all()
    assert summary["block"].unique().tolist() == ["without labels, without image"]
    assert set(summary["n_sections"]) == {4}


# --- Blocks --------------------------------------------------------------------------------------------


def test_blocks_are_never_mixed() -> None:
    image = {keys.MODALITY: keys.RNA_IMAGE}
    summary = summary_of(
        fits("senca", {"A1": [0.5], "B1": [0.4]}),
        fits("coordinates", {"A1": [0.1], "B1": [0.2]}),
        fits("coordinates", {"C1": [0.9], "D1": [0.7]}, **image),
        fits("smoothed-pca", {"C1": [0.3], "D1": [0.3]}, **image),
        fits("senca", {"E1": [0.0]}, label_source=keys.TRANSFERRED),
    )
    assert summary["block"].unique().tolist() == [
        "annotated, without image",
        "annotated, with image",
        "transferred labels, without image",
    ]
    without = of(summary, "coordinates", block="annotated, without")
    assert without["mean_ari"] == pytest.approx(0.15) and without["n_paired"] == 2
    with_image = of(summary, "coordinates", block="annotated, with image")
    assert with_image["mean_ari"] == pytest.approx(0.8)
    # There the reference was not run: whom it would be tested against is in another block.
    assert with_image["remark"] == "the reference has no score to compare"
    assert (
        with_image["n_paired"] == 0
        and not summary[summary["block"].str.contains("with image")]["is_default"].any()
    )


def test_a_section_that_one_method_could_not_read_belongs_to_its_block_all_the_same() -> None:
    unread = {keys.PATIENT: None, keys.MODALITY: None, keys.LABEL_SOURCE: None}
    summary = summary_of(
        fits("senca", REFERENCE),
        fits("coordinates", {s: v for s, v in NULL.items() if s != "C1"}),
        fits("coordinates", {"C1": [None]}, **unread),
    )
    assert len(summary) == 2 and of(summary, "coordinates")["n_failed"] == 1


# --- Readings ------------------------------------------------------------------------------------------


OTHER = (
    {keys.PROTOCOL: "dropped"},
    {keys.PROTOCOL: "unscored+refined"},
    {keys.K_POLICY: "auto"},
)


def test_other_readings_are_no_part_of_the_table() -> None:
    own = [fits("senca", REFERENCE), fits("smoothed-pca", PCA)]
    others = [fits(m, NULL, **reading) for m in ("senca", "smoothed-pca") for reading in OTHER]
    failed = [fits("senca", FAILED, **reading) for reading in OTHER[:1]]
    pd.testing.assert_frame_equal(summary_of(*own), summary_of(*own, *others[1:], *failed))
    assert len(main_rows(frame(*own, *others), study())) == 16


@pytest.mark.parametrize(
    ("reading", "changes"),
    [
        (OTHER[0], {"undetermined": "dropped"}),
        (OTHER[1], {"refined": True}),
        (OTHER[2], {"k_policy": "auto"}),
    ],
)
def test_the_study_s_own_reading_is_the_one_shown(reading: dict[str, str], changes: dict[str, Any]) -> None:
    rows = frame(
        fits("senca", REFERENCE), fits("senca", PCA, **reading), fits("coordinates", NULL, **reading)
    )
    summary = benchmark_summary(rows, study(**changes))
    assert of(summary, "senca")["mean_ari"] == pytest.approx(0.25)
    assert set(summary["k_policy"]) == {changes.get("k_policy", "labels")}


def test_two_benchmarks_are_compared_by_their_own_readings() -> None:
    others = [fits("senca", NULL, **reading) for reading in OTHER]
    first, second = frame(fits("senca", REFERENCE), *others), frame(fits("senca", PCA), *others)
    found = compare_studies(
        main_rows(first, study()), main_rows(second, study()), "a", "b", (keys.DEFAULT, keys.DEFAULT)
    ).frame
    assert found[["mean_a", "mean_b"]].to_numpy().tolist() == [pytest.approx([1.3 / 3, 0.25])]


# --- Columns -------------------------------------------------------------------------------------------


def test_a_row_says_what_a_method_is_and_costs() -> None:
    costs = [{keys.SECONDS: s, keys.PEAK_MEMORY_MB: m} for s, m in ((1.0, 700.0), (4.0, 300.0))]
    rows = [r | costs[r[keys.SEED]] for r in fits("senca", REFERENCE)]
    summary = summary_of(rows, fits("coordinates", FAILED))
    assert tuple(summary.columns) == BENCHMARK_COLUMNS
    model, null = of(summary, "senca"), of(summary, "coordinates")
    assert (model["kind"], model["source"], null["kind"]) == ("model", "ours", "null")
    assert (model[keys.SECONDS], model[keys.PEAK_MEMORY_MB]) == (2.5, 700.0)
    assert null[[keys.SECONDS, keys.PEAK_MEMORY_MB]].isna().all()


def test_a_method_that_is_not_installed_here_has_no_kind() -> None:
    rows = frame(fits("senca", REFERENCE), sweep(keys.FIXED, PCA, method="elsewhere", peak_memory_mb=1.0))
    assert of(benchmark_summary(rows, study()), "elsewhere")["kind"] == ""


@pytest.mark.parametrize("unit", ["patient", "section"])
def test_a_remark_counts_what_was_counted_and_says_it_once(unit: str) -> None:
    summary = summary_of(
        fits("senca", REFERENCE), fits("smoothed-pca", PCA), fits("coordinates", NULL), unit=unit
    )
    (remark,) = {of(summary, name)["remark"] for name in ("smoothed-pca", "coordinates")}
    other = {"patient": "section", "section": "patient"}[unit]
    assert f"{unit}s" in remark and f"{other}s" not in remark
    assert remark.count("the smallest two-sided") == 1


def test_of_five_patients_too_it_is_said_once() -> None:
    better = {f"{letter}1": [0.3 + 0.01 * i] for i, letter in enumerate("ABCDE")}
    worse = {sample: [0.1 * (i % 3)] for i, sample in enumerate(better)}
    null = {sample: [0.05 * (i % 2)] for i, sample in enumerate(better)}
    summary = summary_of(fits("senca", better), fits("smoothed-pca", worse), fits("coordinates", null))
    (remark,) = {of(summary, name)["remark"] for name in ("smoothed-pca", "coordinates")}
    assert "after Holm over 2 tests" in remark and remark.count("the smallest two-sided") == 1


# --- Order of rows -------------------------------------------------------------------------------------

SCORE = st.one_of(st.none(), st.sampled_from((0.0, 0.1, 0.2, 0.3, 0.7)), st.floats(-0.2, 1))
ROWS = st.dictionaries(
    st.tuples(
        st.sampled_from(("senca", "coordinates", "smoothed-pca")),
        st.sampled_from(("ward", "kmeans", keys.CONSENSUS)),
        st.sampled_from(("A1", "A2", "B1", "C1", "X1")),
        st.integers(0, 2),
    ),
    SCORE,
    min_size=1,
    max_size=40,
)


@settings(max_examples=15, deadline=None)
@given(rows=ROWS, order=st.randoms(use_true_random=False), unit=st.sampled_from(("patient", "section")))
def test_the_order_of_the_rows_changes_nothing(rows: dict[Any, Any], order: Any, unit: str) -> None:
    made = []
    for (method, clustering, sample, seed), ari in rows.items():
        source = keys.TRANSFERRED if sample == "X1" else keys.ANNOTATED
        if clustering == keys.CONSENSUS and seed:
            continue
        group = (
            agreed(method, {sample: ari})
            if clustering == keys.CONSENSUS
            else fits(method, {sample: [ari]}, clustering)
        )
        made += [r | {keys.SEED: r[keys.SEED] if clustering == keys.CONSENSUS else seed} for r in group]
        made[-1][keys.LABEL_SOURCE] = source
    if not made:
        return
    table = frame(made)
    shuffled = list(range(len(table)))
    order.shuffle(shuffled)
    one, other = (benchmark_summary(t, study(unit=unit)) for t in (table, table.iloc[shuffled]))
    pd.testing.assert_frame_equal(one, other)
    assert not one.duplicated(["block", "method", "clustering"]).any()


# --- Ranks ---------------------------------------------------------------------------------------------


def test_scores_stand_by_unit_and_method() -> None:
    rows = frame(
        fits("senca", REFERENCE),
        fits("smoothed-pca", {s: v for s, v in PCA.items() if s != "B1"}),
        agreed("senca", {"A1": 0.9}),
        fits("coordinates", NULL, protocol="dropped"),
    )
    (scores,) = unit_scores(rows, study()).values()
    assert scores.columns.tolist() == ["senca (ward)", "smoothed-pca (kmeans)"]
    np.testing.assert_allclose(scores.to_numpy(), [[0.4, 0.35], [0.3, np.nan], [0.6, 0.3]])
    (scores,) = unit_scores(rows, study(unit="section")).values()
    assert len(scores) == 4


def test_methods_are_ranked_over_the_units_that_they_share() -> None:
    rows = frame(
        fits("senca", REFERENCE),
        fits("untrained", PCA),
        fits("smoothed-pca", NULL),
        fits("coordinates", {"A1": [0.9]}),
    )
    (ranking,) = rankings(rows, study()).values()
    assert set(ranking.methods) == {"senca (ward)", "untrained (ward)", "smoothed-pca (kmeans)"}
    expected = stats.friedmanchisquare([0.4, 0.3, 0.6], [0.35, 0.1, 0.3], [0.1, 0.1, 0.1])
    assert ranking.n == 3 and ranking.friedman_p == pytest.approx(expected.pvalue)


# --- Published scores ----------------------------------------------------------------------------------

TABLE_1 = {"BayesSpace", "SpaGCN", "DeepST", "conST", "ConGcR", "ConGaR", "SENCA-st"}


def test_published_means_stand_beside_a_one_sample_test_of_what_was_measured() -> None:
    rows = frame(fits("senca", REFERENCE | {"A2": []}), fits("coordinates", NULL | {"A2": []}))
    found = published_beside(rows, study())
    assert set(found["method"]) == TABLE_1 and set(found["block"]) == {"annotated, without image"}
    row = found[found["method"] == "ConGcR"].iloc[0]
    assert (row["value"], row["n"]) == (0.268, 3) and "Lin et al." in row["source"]
    assert row["reference_mean"] == pytest.approx(1.4 / 3)
    assert row["t_p"] == pytest.approx(stats.ttest_1samp([0.5, 0.3, 0.6], 0.268).pvalue)
    assert row["remark"].startswith("one-sample test")


NO_HER2ST = [
    ("simulated", {}, {"simulated": True}),
    ("transferred labels", {keys.LABEL_SOURCE: keys.TRANSFERRED}, {}),
    ("simulated labels", {keys.LABEL_SOURCE: keys.SIMULATED}, {}),
    ("another reading", {keys.PROTOCOL: "dropped"}, {}),
]


@pytest.mark.parametrize(("rows", "changes"), [c[1:] for c in NO_HER2ST], ids=[c[0] for c in NO_HER2ST])
def test_nothing_published_stands_beside_what_is_not_of_annotated_sections(
    rows: dict[str, Any], changes: dict[str, Any]
) -> None:
    scores = {sample: v for sample, v in REFERENCE.items() if sample != "A2"}
    assert len(published_beside(frame(fits("senca", scores)), study())) > 0
    assert published_beside(frame(fits("senca", scores, **rows)), study(**changes)).empty


def test_sections_of_other_names_have_no_published_mean() -> None:
    """One foreign section is enough: the mean would be of another cohort."""
    others = frame(fits("senca", {"B1": [0.3], "C1": [0.4], "Z9": [0.5]}))
    assert published_beside(others, study()).empty


def test_a_reference_that_was_not_scored_has_nothing_to_be_tested() -> None:
    rows = frame(fits("senca", {"B1": [None], "C1": [None]}), fits("coordinates", {"B1": [0.1], "C1": [0.3]}))
    found = published_beside(rows, study())
    assert found["t_p"].isna().all()


def test_what_was_printed_for_one_section_stands_beside_it() -> None:
    rows = frame(fits("senca", {"H1": [0.4], "B1": [0.2]}))
    found = published_beside(rows, study())
    assert 0.518 in found["value"].tolist() and {"SpatialPCA", "SENCA-st"} <= set(found["method"])


def test_published_means_stand_beside_the_reference_as_it_is_usually_clustered() -> None:
    samples = {s: v for s, v in REFERENCE.items() if s != "A2"}
    others = {s: v for s, v in NULL.items() if s != "A2"}
    rows = frame(fits("smoothed-pca", samples), fits("smoothed-pca", others, "gmm-tied"))
    found = published_beside(rows, study(reference="smoothed-pca"))
    assert found["reference_mean"].tolist() == pytest.approx([1.4 / 3] * len(found))

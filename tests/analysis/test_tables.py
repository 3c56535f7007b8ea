from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from result_frames import consensus, frame, row, sweep
from rich.console import Console
from scipy import stats
from statsmodels.stats.multitest import multipletests

from senca_ray import keys
from senca_ray.analysis.blocks import block_title
from senca_ray.analysis.tables import (
    HOLM_FAMILIES,
    LABEL_FREE_NOTE,
    SUMMARY_COLUMNS,
    format_summary,
    has_no_labels,
    sample_table,
    sweep_summary,
    write_summary,
)
from senca_ray.errors import SencaError
from senca_ray.methods.protocol import Protocol

DEFAULT = "neighbors=4"
PATIENTS = ("A", "B", "C", "D", "E", "F")


def base(noise: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(noise)
    return {f"{p}1": rng.uniform(0.1, 0.6, 3).round(3).tolist() for p in PATIENTS}


def only(summary: pd.DataFrame, **where: Any) -> pd.Series:
    chosen = summary.loc[np.logical_and.reduce([summary[k] == v for k, v in where.items()])]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_a_row_a_setting_with_means_over_patients() -> None:
    # Patient A has two sections: 0.2 (seeds 0.1, 0.3) and 0.4, so 0.3; B has 0.7. Mean and median 0.5.
    summary = sweep_summary(
        frame(sweep(DEFAULT, {"A1": [0.1, 0.3], "A2": [0.4, 0.4], "B1": [0.7, 0.7]})), DEFAULT
    )
    assert list(summary.columns) == list(SUMMARY_COLUMNS)
    found = summary.iloc[0]
    assert found["block"] == "annotated, without image"
    assert found["is_default"]
    assert found["mean_ari"] == pytest.approx(0.5)
    assert found["median_ari"] == pytest.approx(0.5)
    assert (found["n_sections"], found["n_patients"], found["n_seeds"], found["n_failed"]) == (3, 2, 2, 0)
    # Seed 0: A (0.1 + 0.4) / 2, B 0.7: 0.475. Seed 1: A 0.35, B 0.7: 0.525.
    assert found["sd_seeds"] == pytest.approx(np.std([0.475, 0.525], ddof=1))
    assert pd.isna(found["wins"])
    assert math.isnan(found["t_p"])


def test_one_seed_has_no_sd() -> None:
    summary = sweep_summary(frame(sweep(DEFAULT, {"A1": [0.1], "B1": [0.7]})), DEFAULT)
    assert math.isnan(summary.loc[0, "sd_seeds"])


def test_values_are_tested_against_the_default_over_patients() -> None:
    four, eight, sixteen = base(0), base(1), base(2)
    results = frame(sweep(DEFAULT, four), sweep("neighbors=8", eight), sweep("neighbors=16", sixteen))
    summary = sweep_summary(results, DEFAULT)
    assert summary[keys.SETTING].tolist() == ["neighbors=4", "neighbors=8", "neighbors=16"]
    raw = []
    for scores, setting in ((eight, "neighbors=8"), (sixteen, "neighbors=16")):
        value, reference = (np.array([np.mean(v) for v in s.values()]) for s in (scores, four))
        found = only(summary, setting=setting)
        assert found["t_p"] == pytest.approx(stats.ttest_rel(value, reference).pvalue)
        assert found["wilcoxon_p"] == pytest.approx(stats.wilcoxon(value - reference).pvalue)
        assert found["mean_difference"] == pytest.approx((value - reference).mean())
        assert found["wins"] == (value > reference).sum()
        assert found["n_paired"] == 6
        raw.append(found["t_p"])
    corrected = summary["t_p_holm"].iloc[1:].tolist()
    assert corrected == pytest.approx(multipletests(raw, method="holm")[1])
    assert corrected != pytest.approx(raw)


def test_controls_are_a_family_of_their_own() -> None:
    values = [sweep(f"neighbors={n}", base(n)) for n in (4, 8, 16)]
    controls = [
        sweep("fixed", base(20 + i), **{keys.METHOD: name, keys.CLUSTERING: "kmeans"})
        for i, name in enumerate(("coordinates", "smoothed-pca", "untrained"))
    ]
    with_controls = sweep_summary(frame(*values, *controls), DEFAULT)
    without = sweep_summary(frame(*values), DEFAULT)
    pd.testing.assert_frame_equal(with_controls.iloc[:3], without)
    family = with_controls.iloc[3:]
    assert family[keys.METHOD].tolist() == ["coordinates", "smoothed-pca", "untrained"]
    assert not family["is_default"].any()
    corrected = multipletests(family["t_p"], method="holm")[1]
    assert family["t_p_holm"].to_numpy() == pytest.approx(corrected)
    reference = np.array([np.mean(v) for v in base(4).values()])
    value = np.array([np.mean(v) for v in base(20).values()])
    found = only(with_controls, method="coordinates")
    assert found["t_p"] == pytest.approx(stats.ttest_rel(value, reference).pvalue)


def test_a_shift_of_all_scores_leaves_the_tests() -> None:
    results = frame(*(sweep(f"neighbors={n}", base(n)) for n in (4, 8, 16)))
    shifted = results.assign(**{keys.ARI: results[keys.ARI] + 0.25})
    here, there = sweep_summary(results, DEFAULT), sweep_summary(shifted, DEFAULT)
    assert (there["mean_ari"] - here["mean_ari"]).to_numpy() == pytest.approx(0.25)
    same = [
        "sd_seeds",
        "mean_difference",
        "t_p",
        "t_p_holm",
        "wilcoxon_p",
        "wilcoxon_p_holm",
        "wins",
        "remark",
    ]
    pd.testing.assert_frame_equal(here[same], there[same])


def test_blocks_are_never_mixed() -> None:
    images = {keys.MODALITY: keys.RNA_IMAGE}
    transferred = images | {keys.LABEL_SOURCE: keys.TRANSFERRED}
    results = frame(
        sweep(DEFAULT, {"A1": [0.1], "B1": [0.2]}),
        sweep(DEFAULT, {"C1": [0.5], "D1": [0.6]}, **images),
        sweep(DEFAULT, {"E1": [0.8], "F1": [0.9]}, **transferred),
        sweep("neighbors=8", {"E1": [0.7], "F1": [0.6]}, **transferred),
    )
    summary = sweep_summary(results, DEFAULT)
    assert summary["block"].tolist() == [
        "annotated, without image",
        "annotated, with image",
        "transferred labels, with image",
        "transferred labels, with image",
    ]
    assert summary["mean_ari"].tolist() == pytest.approx([0.15, 0.55, 0.85, 0.65])
    assert summary["mean_difference"].iloc[3] == pytest.approx(-0.2)
    assert summary["is_default"].tolist() == [True, True, True, False]


def test_every_block_has_its_words() -> None:
    titles = [block_title(s, m) for s in keys.LABEL_SOURCES for m in (keys.RNA, keys.RNA_IMAGE)]
    assert len(set(titles)) == 8
    assert block_title(keys.SIMULATED, keys.RNA_IMAGE) == "simulated, with image"
    assert block_title(keys.UNLABELLED, keys.RNA) == "without labels, without image"


def test_a_section_that_failed_on_one_side_is_left_out_of_the_comparison() -> None:
    four = sweep(DEFAULT, {"A1": [0.1], "A2": [0.3], "B1": [0.2], "C1": [0.3], "D1": [0.9]})
    eight = sweep("neighbors=8", {"A1": [0.2], "B1": [0.3], "C1": [0.5]})
    failed = [row("A2", "neighbors=8", 0, None), row("D1", "neighbors=8", 0, None)]
    found = only(sweep_summary(frame(four, eight, failed), DEFAULT), setting="neighbors=8")
    # A is compared on A1 alone: 0.1; B 0.1; C 0.2.
    assert found["mean_difference"] == pytest.approx(0.4 / 3)
    assert (found["n_paired"], found["wins"], found["n_failed"]) == (3, 3, 2)
    assert (found["n_sections"], found["n_patients"]) == (3, 3)
    assert "compared without A2, D1, scored on one side only" in found["remark"]
    assert "with 3 patients the smallest two-sided Wilcoxon p is 0.25 and the t-test" in found["remark"]


def test_a_setting_that_failed_everywhere_is_still_listed() -> None:
    failed = [row(f"{p}1", "neighbors=8", seed, None) for p in "ABC" for seed in range(2)]
    found = only(sweep_summary(frame(sweep(DEFAULT, base()), failed), DEFAULT), setting="neighbors=8")
    assert math.isnan(found["mean_ari"])
    assert (found["n_failed"], found["n_sections"], found["n_paired"]) == (6, 0, 0)
    assert "with 0 patients no paired test can be run" in found["remark"]


def test_a_trial_that_could_not_read_its_section_counts_in_its_block() -> None:
    nowhere = {keys.PATIENT: None, keys.MODALITY: None, keys.LABEL_SOURCE: None}
    failed = [row("A1", "neighbors=8", 0, None, **nowhere), row("Z1", "neighbors=8", 0, None, **nowhere)]
    results = frame(sweep(DEFAULT, base()), sweep("neighbors=8", {"B1": [0.2]}), failed)
    summary = sweep_summary(results, DEFAULT)
    assert only(summary, setting="neighbors=8", block="annotated, without image")["n_failed"] == 1
    # Nothing is known of Z1, so it stands apart, at the end.
    assert summary["block"].iloc[-1] == "sections that could not be read"
    assert summary["n_failed"].iloc[-1] == 1
    assert len(format_summary(summary, [0], Protocol())) == 2
    assert sample_table(results)["n_failed"].sum() == 2


def test_a_seed_that_lacks_a_section_is_left_out_of_the_sd() -> None:
    scores = {"A1": [0.1, 0.3, 0.2], "B1": [0.5, 0.5]}
    summary = sweep_summary(frame(sweep(DEFAULT, scores), [row("B1", DEFAULT, 2, None)]), DEFAULT)
    assert summary.loc[0, "sd_seeds"] == pytest.approx(np.std([0.3, 0.4], ddof=1))
    assert summary.loc[0, "n_failed"] == 1


def test_blocks_without_labels_have_no_score() -> None:
    unlabelled = {keys.LABEL_SOURCE: keys.UNLABELLED, keys.K_POLICY: "auto"}
    values = {"A1": [math.nan], "B1": [math.nan]}
    summary = sweep_summary(
        frame(sweep(DEFAULT, values, **unlabelled), sweep("neighbors=8", values, **unlabelled)), DEFAULT
    )
    assert summary[["mean_ari", "t_p", "t_p_holm"]].isna().all().all()
    assert summary["n_sections"].tolist() == [2, 2]
    assert summary["remark"].tolist() == ["", "no score to compare"]


def test_a_block_without_the_default_says_so() -> None:
    images = {keys.MODALITY: keys.RNA_IMAGE}
    results = frame(sweep(DEFAULT, base()), sweep("neighbors=8", {"A1": [0.1], "B1": [0.2]}, **images))
    found = only(sweep_summary(results, DEFAULT), setting="neighbors=8")
    assert found["n_paired"] == 0
    assert "compared without A1, B1, scored on one side only" in found["remark"]


def test_k_policies_and_clusterings_are_compared_with_their_own() -> None:
    auto = {keys.K_POLICY: "auto"}
    kmeans = {keys.CLUSTERING: "kmeans"}
    results = frame(
        sweep(DEFAULT, {"A1": [0.1], "B1": [0.1]}),
        sweep("neighbors=8", {"A1": [0.2], "B1": [0.3]}),
        sweep(DEFAULT, {"A1": [0.5], "B1": [0.5]}, **auto),
        sweep("neighbors=8", {"A1": [0.1], "B1": [0.2]}, **auto),
        sweep(DEFAULT, {"A1": [0.4], "B1": [0.4]}, **kmeans),
        sweep("neighbors=8", {"A1": [0.6], "B1": [0.5]}, **kmeans),
        sweep(
            "fixed", {"A1": [0.0], "B1": [0.1]}, **{keys.METHOD: "coordinates", keys.CLUSTERING: "average"}
        ),
    )
    summary = sweep_summary(results, DEFAULT)
    differences = summary.set_index([keys.METHOD, keys.SETTING, keys.CLUSTERING, keys.K_POLICY])[
        "mean_difference"
    ]
    assert differences["senca", "neighbors=8", "ward", "labels"] == pytest.approx(0.15)
    assert differences["senca", "neighbors=8", "ward", "auto"] == pytest.approx(-0.35)
    assert differences["senca", "neighbors=8", "kmeans", "labels"] == pytest.approx(0.15)
    # Not clustered like any default: it meets the first by name, k-means.
    assert differences["coordinates", "fixed", "average", "labels"] == pytest.approx(-0.35)


def test_an_unknown_default_is_answered_with_the_settings() -> None:
    results = frame(*(sweep(f"neighbors={n}", base()) for n in (16, 4, 8)))
    with pytest.raises(
        SencaError, match=r"'neighbors=5' .*expected one of: neighbors=4, neighbors=8, neighbors=16"
    ):
        sweep_summary(results, "neighbors=5")


def test_sample_table_averages_seeds() -> None:
    results = frame(sweep(DEFAULT, {"A1": [0.1, 0.3], "B1": [0.5]}), [row("B1", DEFAULT, 1, None)])
    table = sample_table(results).set_index(keys.SAMPLE)
    assert table["mean_ari"].to_dict() == pytest.approx({"A1": 0.2, "B1": 0.5})
    assert table.loc["A1", "sd_seeds"] == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert math.isnan(table.loc["B1", "sd_seeds"])
    assert table["n_seeds"].to_dict() == {"A1": 2, "B1": 1}
    assert table["n_failed"].to_dict() == {"A1": 0, "B1": 1}
    assert table[keys.K].tolist() == [4, 4]
    assert table[keys.PATIENT].to_dict() == {"A1": "A", "B1": "B"}


def test_summary_csv_reads_back(tmp_path: Path) -> None:
    summary = sweep_summary(frame(sweep(DEFAULT, base(0)), sweep("neighbors=8", base(1))), DEFAULT)
    path = write_summary(tmp_path, summary)
    assert [p.name for p in tmp_path.iterdir()] == [keys.SUMMARY_FILE]
    again = pd.read_csv(path, float_precision="round_trip")
    assert list(again.columns) == list(SUMMARY_COLUMNS)
    assert again["mean_ari"].tolist() == summary["mean_ari"].tolist()
    with pytest.raises(SencaError, match=r"summary\.csv: cannot be written"):
        write_summary(tmp_path / "absent", summary)


def printed(summary: pd.DataFrame, seeds: list[int], k_policy: str) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    for table in format_summary(summary, seeds, Protocol(k_policy)):
        console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_printed_table_is_readable_at_80_columns() -> None:
    settings = [sweep(f"neighbors={n}", base(n)) for n in (4, 8, 16)]
    controls = [
        sweep("fixed", base(i), **{keys.METHOD: name, keys.CLUSTERING: "complete"})
        for i, name in enumerate(("coordinates", "smoothed-image", "smoothed-pca", "untrained"))
    ]
    failed = [row("A1", "hvgs=500", 0, None)]
    seeds = list(range(15))
    lines = printed(sweep_summary(frame(*settings, *controls, failed), DEFAULT), seeds, "labels")
    text = "\n".join(lines)
    assert max(len(line) for line in lines) <= 80
    assert "…" not in text
    table = [line.split() for line in lines if "─" not in line and line.split()[1:]]
    # Nothing folded: each row begins with its whole method and setting, or method and clustering.
    starts = [cells[:2] for cells in table]
    assert ["senca", "hvgs=500"] in starts
    assert ["senca", "neighbors=16"] in starts
    assert ["smoothed-image", "(complete)"] in starts
    flowing = " ".join(text.split())
    assert "annotated, without image: 6 sections of 6 patients" in flowing
    assert "15 seeds (0 to 14) k policy labels (oracle" in flowing
    assert Protocol().words() in flowing
    assert HOLM_FAMILIES in flowing


def test_the_printed_numbers_are_those_of_the_summary() -> None:
    scores = {"A1": [0.1, 0.2], "B1": [0.3, 0.4], "C1": [0.5, 0.6]}
    better = {
        name: [v + d for v in values]
        for (name, values), d in zip(scores.items(), (0.1, 0.2, 0.3), strict=True)
    }
    summary = sweep_summary(frame(sweep(DEFAULT, scores), sweep("neighbors=8", better)), DEFAULT)
    lines = printed(summary, [0, 1], "fixed:4")
    eight = next(line for line in lines if "neighbors=8" in line and "senca" in line)
    assert eight.split() == [
        "senca",
        "neighbors=8",
        "0.550",
        "0.550",
        "0.071",
        "+0.200",
        "3/3",
        "0.074",
        "0.250",
    ]
    flowing = " ".join(" ".join(lines).split())
    assert "k policy fixed:4; all" in flowing
    assert "with 3 patients the smallest two-sided Wilcoxon p is 0.25 and the t-test" in flowing


def test_a_remark_about_some_rows_names_them() -> None:
    results = frame(
        sweep(DEFAULT, base()),
        sweep("neighbors=8", base(1)),
        sweep("neighbors=16", {k: v for k, v in base(2).items() if k != "F1"}),
    )
    flowing = " ".join(" ".join(printed(sweep_summary(results, DEFAULT), [0], "auto")).split())
    assert "senca neighbors=16: compared without F1, scored on one side only" in flowing
    assert "senca neighbors=8: with 6 patients the smallest" in flowing


def test_a_summary_can_go_into_json() -> None:
    summary = sweep_summary(frame(sweep(DEFAULT, base(0)), sweep("neighbors=8", base(1))), DEFAULT)
    records = json.loads(summary.to_json(orient="records"))
    assert records[0]["wins"] is None
    assert isinstance(records[1]["wins"], int)


def medians(noise: int) -> dict[str, float]:
    return {sample: float(np.median(values)) for sample, values in base(noise).items()}


def with_consensus() -> pd.DataFrame:
    control = {keys.METHOD: "untrained"}
    fixed = {keys.METHOD: "coordinates", keys.CLUSTERING: "average"}
    return frame(
        *(sweep(f"neighbors={n}", base(n)) for n in (4, 8, 16)),
        *(consensus(f"neighbors={n}", medians(n)) for n in (4, 8, 16)),
        sweep(DEFAULT, base(20), **control),
        consensus(DEFAULT, medians(21), **control),
        sweep("fixed", base(22), **fixed),
    )


def test_a_consensus_is_compared_with_the_consensus_of_the_default() -> None:
    results = with_consensus()
    summary = sweep_summary(results, DEFAULT)
    rows = summary[summary[keys.CLUSTERING] == keys.CONSENSUS]
    assert rows[keys.METHOD].tolist() == ["senca"] * 3 + ["untrained"]
    assert rows["is_default"].tolist() == [True, False, False, False]
    assert (rows["n_seeds"] == 3).all()
    assert rows["sd_seeds"].isna().all()
    assert rows[keys.STABILITY].tolist() == [0.5] * 4
    reference = np.array(list(medians(4).values()))
    raw = []
    for noise, found in zip((8, 16, 21), rows.iloc[1:].to_dict("records"), strict=True):
        value = np.array(list(medians(noise).values()))
        assert found["t_p"] == pytest.approx(stats.ttest_rel(value, reference).pvalue)
        assert found["mean_difference"] == pytest.approx((value - reference).mean())
        raw.append(found["t_p"])
    # Two families: the two settings, and the one control.
    assert rows["t_p_holm"].tolist()[1:] == pytest.approx([*multipletests(raw[:2], method="holm")[1], raw[2]])


def test_a_consensus_changes_nothing_for_the_single_seeds() -> None:
    results = with_consensus()
    single = results[results[keys.CLUSTERING] != keys.CONSENSUS]
    summary = sweep_summary(results, DEFAULT)
    # Single seeds come first; a control clustered like no default meets the single seeds' default.
    pd.testing.assert_frame_equal(summary.iloc[:5], sweep_summary(single, DEFAULT))
    assert summary.iloc[:5][keys.STABILITY].isna().all()


def test_a_consensus_without_that_of_the_default_is_not_compared() -> None:
    results = frame(sweep(DEFAULT, base()), consensus("neighbors=8", medians(8)))
    found = only(sweep_summary(results, DEFAULT), clustering=keys.CONSENSUS)
    assert found["n_paired"] == 0
    assert "scored on one side only" in found["remark"]
    assert math.isnan(found["t_p"])


def test_a_failed_consensus_is_counted() -> None:
    scores = medians(4) | {"A1": None}
    results = frame(sweep(DEFAULT, base()), consensus(DEFAULT, medians(4)), consensus("neighbors=8", scores))
    found = only(sweep_summary(results, DEFAULT), clustering=keys.CONSENSUS, setting="neighbors=8")
    assert (found["n_failed"], found["n_sections"], found["n_seeds"]) == (1, 5, 3)
    nowhere = frame(sweep(DEFAULT, base()), consensus(DEFAULT, dict.fromkeys(base())))
    assert only(sweep_summary(nowhere, DEFAULT), clustering=keys.CONSENSUS)["n_seeds"] == 0


def test_stability_is_averaged_within_patients() -> None:
    stable = [
        *consensus(DEFAULT, {"A1": 0.1}, stability=0.2),
        *consensus(DEFAULT, {"A2": 0.1}, stability=0.4),
        *consensus(DEFAULT, {"B1": 0.1}, stability=0.9),
    ]
    assert sweep_summary(frame(stable), DEFAULT).loc[0, keys.STABILITY] == pytest.approx((0.3 + 0.9) / 2)
    table = sample_table(frame(stable, sweep(DEFAULT, {"A1": [0.1]}))).set_index(
        [keys.CLUSTERING, keys.SAMPLE]
    )
    assert table.loc[keys.CONSENSUS, keys.STABILITY].to_dict() == {"A1": 0.2, "A2": 0.4, "B1": 0.9}
    assert table.loc[keys.CONSENSUS, "n_seeds"].tolist() == [3, 3, 3]
    assert math.isnan(table.loc[("ward", "A1"), keys.STABILITY])


def test_settings_come_in_the_order_given() -> None:
    labels = ["full", "without image", "no hierarchical learning"]
    results = frame(*(sweep(label, base(i)) for i, label in enumerate([*labels, "extra=16", "extra=4"])))
    summary = sweep_summary(results, "full", order=labels)
    assert summary[keys.SETTING].tolist() == [*labels, "extra=4", "extra=16"]
    by_name = sweep_summary(results, "full")[keys.SETTING].tolist()
    assert by_name == ["extra=4", "extra=16", "full", "no hierarchical learning", "without image"]


def test_any_label_is_printed_with_its_method() -> None:
    labels = ["full", "without image", "tuned"]
    summary = sweep_summary(
        frame(
            *(sweep(label, base(i)) for i, label in enumerate(labels)),
            sweep("full", base(7), **{keys.METHOD: "untrained"}),
        ),
        "full",
        order=labels,
    )
    text = "\n".join(printed(summary, [0, 1, 2], "labels"))
    for name in ("senca full ", "senca without image ", "senca tuned ", "untrained full "):
        assert f"\n{name}" in text


def test_the_consensus_has_a_table_of_its_own_at_80_columns() -> None:
    lines = printed(sweep_summary(with_consensus(), DEFAULT), [0, 1, 2], "labels")
    assert max(map(len, lines)) <= 80
    title = next(i for i, line in enumerate(lines) if "consensus of 3 seeds" in line)
    before, after = "\n".join(lines[:title]), "\n".join(lines[title:])
    assert "3 seeds (0 to 2)" in before
    assert "coordinates (average)" in before
    assert "sd of" in before
    assert "stabi-" not in before
    assert "stabi-" in after
    assert "sd of" not in after
    sixteen = next(line for line in after.splitlines() if line.startswith("senca neighbors=16"))
    assert sixteen.split()[4] == "0.500"
    assert HOLM_FAMILIES in " ".join(after.split())


def unlabelled(setting: str, silhouettes: dict[str, list[float]], **changes: Any) -> list[dict[str, Any]]:
    """Rows without labels: a silhouette a seed; CHAOS is 1 more, PAS a tenth, k twice the seed and 2."""
    own = {keys.LABEL_SOURCE: keys.UNLABELLED, keys.K_POLICY: "auto"} | changes
    return [
        row(sample, setting, seed, math.nan, **own)
        | {keys.SILHOUETTE: value, keys.CHAOS: 1 + value, keys.PAS: value / 10, keys.K: 2 * seed + 2}
        for sample, values in silhouettes.items()
        for seed, value in enumerate(values)
    ]


def label_free_results() -> pd.DataFrame:
    combined = {keys.CLUSTERING: keys.CONSENSUS, keys.STABILITY: 0.7, keys.N_SEEDS: 2}
    scores = {"A1": [0.1, 0.3], "A2": [0.6, 0.6], "B1": [0.2, 0.2]}
    return frame(
        unlabelled(DEFAULT, scores),
        unlabelled("neighbors=8", {"A1": [0.3, 0.3], "A2": [0.3, 0.3], "B1": [0.5, 0.5]}),
        [
            found | combined | {keys.SEED: keys.ALL_SEEDS, keys.SILHOUETTE: None}
            for found in unlabelled(DEFAULT, {"A1": [0.1], "B1": [0.2]})
        ],
    )


def test_scores_that_need_no_labels_are_means_over_patients() -> None:
    summary = sweep_summary(label_free_results(), DEFAULT)
    first = only(summary, setting=DEFAULT, clustering="ward")
    # Patient A: the mean of 0.2 and 0.6; B: 0.2.
    assert first["mean_silhouette"] == pytest.approx(0.3)
    assert first["mean_chaos"] == pytest.approx(1.3)
    assert first["mean_pas"] == pytest.approx(0.03)
    assert first["median_k"] == 3
    assert math.isnan(first["mean_ari"])
    combined = only(summary, setting=DEFAULT, clustering=keys.CONSENSUS)
    assert combined[keys.STABILITY] == pytest.approx(0.7)
    assert math.isnan(combined["mean_silhouette"])
    sections = sample_table(label_free_results()).set_index([keys.SAMPLE, keys.SETTING, keys.CLUSTERING])
    assert sections.loc[("A1", DEFAULT, "ward"), keys.SILHOUETTE] == pytest.approx(0.2)
    assert sections.loc[("B1", "neighbors=8", "ward"), keys.PAS] == pytest.approx(0.05)


def test_a_block_without_labels_shows_what_needs_none_and_claims_no_test() -> None:
    lines = printed(sweep_summary(label_free_results(), DEFAULT), [0, 1], "auto")
    assert max(map(len, lines)) <= 80
    title = next(i for i, line in enumerate(lines) if "consensus of 2 seeds" in line)
    single, combined = lines[:title], lines[title:]
    first = next(line for line in single if line.startswith("senca neighbors=4"))
    assert first.split() == ["senca", "neighbors=4", "3", "0.300", "1.300", "0.030"]
    other = next(line for line in combined if line.startswith("senca neighbors=4"))
    assert other.split() == ["senca", "neighbors=4", "2", "1.150", "0.015", "0.700"]
    for part in (single, combined):
        flowing = " ".join(" ".join(part).split())
        assert LABEL_FREE_NOTE in flowing
        assert "k policy auto; no labels to score against" in flowing
        assert not any(word in flowing for word in ("ARI", "Holm", "Wilcoxon", "differ-", "wins"))


def test_a_labelled_block_beside_one_without_labels_keeps_its_scores() -> None:
    both = frame(label_free_results().to_dict("records"), sweep(DEFAULT, {"E1": [0.4], "F1": [0.2]}))
    summary = sweep_summary(both, DEFAULT)
    told = {block: has_no_labels(rows) for block, rows in summary.groupby("block")}
    assert told == {"annotated, without image": False, "without labels, without image": True}
    text = " ".join(" ".join(printed(summary, [0, 1], "auto")).split())
    assert "ARI" in text
    assert "annotated, without image: 2 sections" in text


def test_a_block_whose_fits_all_failed_is_not_taken_for_one_without_labels() -> None:
    assert not has_no_labels(sweep_summary(frame([row("A1", DEFAULT, 0, None)]), DEFAULT))


def test_refinement_is_told_without_labels_too() -> None:
    tables = format_summary(sweep_summary(label_free_results(), DEFAULT), [0], Protocol(refined=True))
    assert all("regions refined by their neighbours" in str(table.title) for table in tables)

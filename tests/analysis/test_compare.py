from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_frames import consensus, frame, row, sweep
from rich.console import Console
from scipy import stats
from statsmodels.stats.multitest import multipletests

from senca_ray import keys
from senca_ray.analysis.compare import COMPARISON_COLUMNS, Comparison, compare_studies, format_comparison
from senca_ray.errors import SencaError

PATIENTS = "ABCDEF"
FOUR = "neighbors=4"


def scores(seed: int, patients: str = PATIENTS) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {f"{p}1": rng.uniform(0.1, 0.6, 3).round(3).tolist() for p in patients}


def compare(a: pd.DataFrame, b: pd.DataFrame, defaults: tuple[str, str] = (FOUR, FOUR)) -> Comparison:
    return compare_studies(a, b, "first", "second", defaults)


def one(comparison: Comparison, **where: Any) -> pd.Series:
    chosen = comparison.frame
    for column, value in where.items():
        chosen = chosen[chosen[column] == value]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_a_comparison_by_hand() -> None:
    # Patient A has sections of 0.1 ahead and 0.3 ahead, so 0.2; B 0.3, C 0.1: mean 0.2, t = 2 sqrt 3.
    a = frame(sweep(FOUR, {"A1": [0.1, 0.3], "A2": [0.4], "B1": [0.2], "C1": [0.5]}))
    b = frame(sweep(FOUR, {"A1": [0.3], "A2": [0.7], "B1": [0.5], "C1": [0.6]}))
    found = compare(a, b)
    assert tuple(found.frame.columns) == COMPARISON_COLUMNS
    (row_,) = found.frame.to_dict("records")
    assert row_["block"] == "annotated, without image"
    assert (row_[keys.METHOD], row_["setting_a"], row_["setting_b"]) == ("senca", FOUR, FOUR)
    assert (row_["n_paired"], row_["wins"]) == (3, 3)
    # A: (0.2 + 0.4) / 2, 0.2, 0.5; B: 0.5, 0.5, 0.6.
    assert row_["mean_a"] == pytest.approx(1 / 3)
    assert row_["mean_b"] == pytest.approx(1.6 / 3)
    assert row_["mean_difference"] == pytest.approx(0.2)
    assert row_["t_p"] == pytest.approx(1 - 3.4641016 / np.sqrt(14))
    assert row_["wilcoxon_p"] == pytest.approx(0.25)
    assert "2 seeds in A, 1 in B" in row_["remark"]
    assert "with 3 patients the smallest two-sided Wilcoxon p is 0.25" in row_["remark"]


def test_every_row_that_both_hold_is_tested_in_one_family() -> None:
    pca = {keys.METHOD: "smoothed-pca", keys.CLUSTERING: "kmeans"}
    a_scores, b_scores = [scores(i) for i in range(4)], [scores(10 + i) for i in range(4)]

    def study(values: list[dict[str, list[float]]], extra: str) -> pd.DataFrame:
        combined = {s: float(np.mean(v)) for s, v in values[3].items()}
        return frame(
            sweep(FOUR, values[0]),
            sweep("neighbors=16", values[1]),
            sweep("fixed", values[2], **pca),
            consensus(FOUR, combined),
            sweep(extra, scores(99)),
        )

    found = compare(study(a_scores, "neighbors=8"), study(b_scores, "neighbors=32")).frame
    names = found[[keys.METHOD, "setting_a", keys.CLUSTERING]].to_numpy().tolist()
    # What only one study holds is not there; single seeds come before the consensus.
    assert names == [
        ["senca", FOUR, "ward"],
        ["senca", "neighbors=16", "ward"],
        ["smoothed-pca", "fixed", "kmeans"],
        ["senca", FOUR, keys.CONSENSUS],
    ]
    means = [[np.array([np.mean(v) for v in s.values()]) for s in side] for side in (a_scores, b_scores)]
    for name, test in (("t_p", stats.ttest_rel), ("wilcoxon_p", stats.wilcoxon)):
        raw = [test(np.round(b - a, 12)).pvalue if test is stats.wilcoxon else test(b, a).pvalue
               for a, b in zip(*means, strict=True)]  # fmt: skip
        assert found[name].tolist() == pytest.approx(raw)
        assert found[f"{name}_holm"].tolist() == pytest.approx(multipletests(raw, method="holm")[1])


def test_defaults_of_different_names_meet() -> None:
    a = frame(
        sweep("default", scores(0)), sweep(FOUR, scores(1)), consensus("default", {"A1": 0.4, "B1": 0.3})
    )
    b = frame(sweep("full", scores(2)), sweep(FOUR, scores(3)), consensus("full", {"A1": 0.5, "B1": 0.3}))
    found = compare(a, b, ("default", "full"))
    assert found.frame[["setting_a", "setting_b"]].to_numpy().tolist() == [
        [FOUR, FOUR],
        ["default", "full"],
        ["default", "full"],
    ]
    assert found.frame[keys.CLUSTERING].tolist() == ["ward", "ward", keys.CONSENSUS]
    assert one(found, setting_a="default", clustering=keys.CONSENSUS)["mean_difference"] == pytest.approx(
        0.05
    )
    # The same label twice is one row.
    assert len(compare(a, a, ("default", "default")).frame) == 3


def test_only_sections_of_both_count_and_the_others_are_told() -> None:
    a = frame(sweep(FOUR, {"A1": [0.1], "A2": [0.9], "B1": [0.2], "D1": [0.0]}), [row("Z1", FOUR, 0, None)])
    b = frame(sweep(FOUR, {"A1": [0.3], "B1": [0.5], "C1": [1.0]}), [row("A2", FOUR, 0, None)])
    found = compare(a, b)
    assert (found.only_a, found.only_b) == (("A2", "D1"), ("C1",))
    assert one(found)["mean_a"] == pytest.approx(0.15)
    assert "scored on one side only" not in one(found)["remark"]
    text = printed(found)
    assert "scored in A alone: A2, D1" in text
    assert "scored in B alone: C1" in text


def test_a_row_that_lacks_a_shared_section_says_so() -> None:
    a = frame(sweep(FOUR, scores(0, "ABC")), sweep("neighbors=8", scores(1, "ABC")))
    b = frame(sweep(FOUR, scores(2, "ABC")), sweep("neighbors=8", scores(3, "AB")))
    found = one(compare(a, b), setting_a="neighbors=8")
    assert found["n_paired"] == 2
    assert found["remark"].startswith("compared without C1, scored on one side only")


def test_what_else_differs_is_a_remark() -> None:
    longer = {keys.CONFIG: json.dumps({"neighbors": 4, "epochs": 50, "new": 1}), keys.FINGERPRINT: "0" * 64}
    a = frame(sweep(FOUR, scores(0)))
    b = frame(sweep(FOUR, scores(1), **longer))
    found = compare(a, b)
    assert one(found)["remark"] == "epochs 10 in A, 50 in B"
    assert found.reprepared == tuple(f"{p}1" for p in PATIENTS)
    assert "prepared differently in A and B: A1, B1" in printed(found)
    assert compare(a, a).reprepared == ()
    more = [{**r, keys.N_SEEDS: 15} for r in consensus(FOUR, {"A1": 0.5})]
    combined = compare(frame(consensus(FOUR, {"A1": 0.5})), frame(more))
    assert "3 seeds in A, 15 in B" in one(combined)["remark"]


def test_blocks_are_compared_apart() -> None:
    image = {keys.MODALITY: keys.RNA_IMAGE}
    a = frame(sweep(FOUR, scores(0)), sweep(FOUR, {"X1": [0.1], "Y1": [0.2]}, **image))
    b = frame(sweep(FOUR, scores(1)), sweep(FOUR, {"X1": [0.5], "Y1": [0.4]}, **image))
    found = compare(a, b).frame.set_index("block")
    assert found.index.tolist() == ["annotated, without image", "annotated, with image"]
    assert found.loc["annotated, with image", "mean_difference"] == pytest.approx(0.3)
    alone = compare(frame(sweep(FOUR, scores(0))), frame(sweep(FOUR, scores(1)))).frame.iloc[0]
    assert found["t_p_holm"].iloc[0] == pytest.approx(alone["t_p_holm"])


@pytest.mark.parametrize(
    ("b", "message"),
    [
        (
            sweep(FOUR, scores(0), k_policy="auto"),
            "k was chosen differently: labels in first, auto in second",
        ),
        (sweep(FOUR, {"X1": [0.1]}), "share no section that both scored .A1, B1, C1, D1 and 2 more and X1"),
        (
            sweep("neighbors=8", scores(0)),
            "share no setting on the sections they share .neighbors=4 and neigh",
        ),
        (sweep(FOUR, scores(0), label_source=keys.TRANSFERRED), "labels of different sources"),
        (sweep(FOUR, {"A1": [float("nan")]}), "share no section that both scored .*and none"),
    ],
)
def test_studies_that_cannot_be_compared_are_refused(b: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(SencaError, match=message):
        compare(frame(sweep(FOUR, scores(0))), frame(b))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_sides_swapped_swap_the_sign(one_seed: int, other_seed: int) -> None:
    a, b = (
        frame(sweep(FOUR, scores(s)), sweep("neighbors=8", scores(s + 1))) for s in (one_seed, other_seed)
    )
    here, there = compare(a, b).frame, compare(b, a).frame
    assert here["mean_difference"].tolist() == pytest.approx((-there["mean_difference"]).tolist())
    assert here["mean_a"].tolist() == pytest.approx(there["mean_b"].tolist())
    for name in ("t_p_holm", "wilcoxon_p_holm"):
        assert here[name].tolist() == pytest.approx(there[name].tolist(), nan_ok=True)


def printed(comparison: Comparison) -> str:
    console = Console(file=io.StringIO(), width=80)
    for table in format_comparison(comparison):
        console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 80
    return " ".join(text.split())


def test_the_printed_table_is_readable_at_80_columns() -> None:
    def study(noise: int, default: str) -> pd.DataFrame:
        return frame(
            sweep(default, scores(noise)),
            consensus(default, {f"{p}1": noise / 10 for p in PATIENTS}),
            sweep("neighbors=16", scores(noise + 5)),
            consensus("neighbors=16", {f"{p}1": noise / 10 for p in PATIENTS}),
            sweep("fixed", scores(noise + 9), **{keys.METHOD: "coordinates", keys.CLUSTERING: "average"}),
        )

    text = printed(compare(study(1, "default"), study(2, "full"), ("default", "full")))
    assert "annotated, without image: A is first, B is second" in text
    assert "k policy labels" in text
    for name in ("senca neighbors=16, consensus", "senca default against full", "coordinates (average)"):
        assert name in text
    assert "senca default against full, consensus 0.100 0.200 +0.100 6/6" in text

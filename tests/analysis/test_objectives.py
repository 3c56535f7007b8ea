from __future__ import annotations

import io
import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from result_frames import consensus, frame, row
from rich.console import Console
from scipy import stats

from senca_ray import keys
from senca_ray.analysis.objectives import (
    AGREEMENT_COLUMNS,
    LABEL_FREE,
    format_agreement,
    objective_agreement,
    section_objectives,
)

SETTINGS = ("a", "b", "c", "d", "e")


def fits(sample: str, **columns: list[float | None]) -> list[dict[str, Any]]:
    """One row a setting a, b, ...: scores by column, for seed 0."""
    return [
        row(sample, setting, 0, values[0], **dict(zip(list(columns)[1:], values[1:], strict=True)))
        for setting, values in zip(SETTINGS, zip(*columns.values(), strict=True), strict=False)
    ]


def agreement(results: pd.DataFrame, objective: str) -> pd.Series:
    table = objective_agreement(results)
    return table[table["objective"] == objective].iloc[0]


def test_agreement_by_hand() -> None:
    # Ranks of ARI 1 2 3 4. A: silhouette 1 2 3 4, rho 1. B: 2 1 3 4, rho 1 - 6 * 2 / (4 * 15) = 0.8.
    # C: 4 3 2 1, rho -1. Mean 0.8 / 3.
    ari = [0.1, 0.2, 0.3, 0.4]
    results = frame(
        fits("A1", ari=ari, silhouette=[1, 2, 3, 4]),
        fits("B1", ari=ari, silhouette=[2, 1, 3, 4]),
        fits("C1", ari=ari, silhouette=[4, 3, 2, 1]),
    )
    table = objective_agreement(results)
    assert tuple(table.columns) == AGREEMENT_COLUMNS
    assert table["objective"].tolist() == list(LABEL_FREE)
    assert set(table["block"]) == {"annotated, without image"}
    found = agreement(results, keys.SILHOUETTE)
    assert found["spearman"] == pytest.approx(0.8 / 3)
    assert (found["n_settings"], found["n_patients"], found["remark"]) == (4, 3, "")
    expected = stats.bootstrap(
        ([1, 0.8, -1],), np.mean, n_resamples=9_999, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
    # A resample of three patients is the lowest or the highest thrice in 1 of 27, more than 2.5 %.
    assert (found["low"], found["high"]) == pytest.approx((-1, 1))
    assert agreement(results, keys.CHAOS)["remark"] == "not measured"
    assert math.isnan(agreement(results, keys.CHAOS)["spearman"])


@pytest.mark.parametrize("objective", [keys.CHAOS, keys.PAS, keys.LOSS_LAST])
def test_an_objective_that_should_be_small_agrees_when_it_falls(objective: str) -> None:
    ari = [0.1, 0.2, 0.3, 0.4, 0.5]
    results = frame(*(fits(f"{p}1", **{keys.ARI: ari, objective: [5.0, 4.0, 3.0, 2.0, 1.0]}) for p in "ABC"))
    found = agreement(results, objective)
    assert (found["spearman"], found["low"], found["high"]) == pytest.approx((1, 1, 1))


def test_losses_of_different_weights_rank_nothing() -> None:
    ari = [0.1, 0.2, 0.3, 0.4, 0.5]
    results = frame(*(fits(f"{p}1", ari=ari, loss_last=ari, silhouette=ari) for p in "ABC"))
    weights = results[keys.SETTING].map({name: float(i) for i, name in enumerate(SETTINGS)})
    results[keys.CONFIG] = [json.dumps({"mse_weight": weight}) for weight in weights]
    found = agreement(results, keys.LOSS_LAST)
    assert math.isnan(found["spearman"]) and found["remark"] == "the settings change what the loss measures"
    assert agreement(results, keys.SILHOUETTE)["spearman"] == pytest.approx(1)


def test_seeds_then_sections_are_averaged_before_ranking() -> None:
    # Patient A, section 1 with two seeds, section 2 with one. ARI means: a (0.2 + 0.5) / 2 = 0.35,
    # b (0.3 + 0.1) / 2 = 0.2; over rows alone a would be 0.3 and b 0.37.
    results = frame(
        [row("A1", "a", 0, 0.0, silhouette=2), row("A1", "a", 1, 0.4, silhouette=2)],
        [row("A1", "b", 0, 0.5, silhouette=1), row("A1", "b", 1, 0.5, silhouette=1)],
        [row("A2", "a", 0, 0.5, silhouette=2), row("A2", "b", 0, 0.1, silhouette=1)],
    )
    assert agreement(results, keys.SILHOUETTE)["spearman"] == pytest.approx(1)
    sections = section_objectives(results)
    assert sections.loc[(keys.ANNOTATED, keys.RNA, "A", "A1", "a"), keys.ARI] == pytest.approx(0.2)


def test_stability_is_that_of_the_consensus_and_ari_that_of_the_seeds() -> None:
    ari = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    results = frame(
        *([row(f"{p}1", s, 0, v, silhouette=0.5) for s, v in ari.items()] for p in "ABC"),
        # The consensus ranks the other way round by ARI, and as the seeds do by stability.
        *(consensus(s, {f"{p}1": -v for p in "ABC"}, stability=v) for s, v in ari.items()),
    )
    assert agreement(results, keys.STABILITY)["spearman"] == pytest.approx(1)
    assert agreement(results, keys.STABILITY)["n_settings"] == 4
    # The same for every setting: ranks nothing.
    same = agreement(results, keys.SILHOUETTE)
    assert (same["n_patients"], same["remark"]) == (0, "no patient has two settings that differ in both")


def test_a_setting_that_lacks_a_section_is_not_ranked_in_its_patient() -> None:
    ari = [0.1, 0.2, 0.3, 0.4, 0.5]
    raced = fits("A2", ari=[*ari[:3], None, None], silhouette=[1, 2, 3, None, None])
    results = frame(fits("A1", ari=ari, silhouette=[1, 2, 3, -5, -6]), raced)
    found = agreement(results, keys.SILHOUETTE)
    assert (found["spearman"], found["n_settings"]) == (pytest.approx(1), 3)
    assert "a ranking of 3 settings says little" in found["remark"]


def test_few_patients_have_no_interval() -> None:
    ari = [0.1, 0.2, 0.3, 0.4]
    one = agreement(frame(fits("A1", ari=ari, silhouette=ari)), keys.SILHOUETTE)
    assert math.isnan(one["low"])
    assert one["remark"] == "1 patient has no interval to speak of"
    two = frame(fits("A1", ari=ari, silhouette=ari), fits("B1", ari=ari, silhouette=ari[::-1]))
    found = agreement(two, keys.SILHOUETTE)
    assert (found["low"], found["high"]) == pytest.approx((-1, 1))
    assert found["remark"] == "2 patients have no interval to speak of"


def test_blocks_apart_and_blocks_without_labels_left_out() -> None:
    ari = [0.1, 0.2, 0.3, 0.4]
    image = [r | {keys.MODALITY: keys.RNA_IMAGE} for r in fits("B1", ari=ari, silhouette=ari[::-1])]
    unlabelled = [
        r | {keys.LABEL_SOURCE: keys.UNLABELLED, keys.ARI: None} for r in fits("C1", ari=ari, silhouette=ari)
    ]
    table = objective_agreement(frame(fits("A1", ari=ari, silhouette=ari), image, unlabelled))
    silhouette = table[table["objective"] == keys.SILHOUETTE].set_index("block")["spearman"]
    assert silhouette.to_dict() == pytest.approx({"annotated, without image": 1, "annotated, with image": -1})
    only = objective_agreement(frame(unlabelled))
    assert (len(only), list(only.columns)) == (0, list(AGREEMENT_COLUMNS))
    assert format_agreement(only) == []


def test_controls_and_failed_fits_are_not_ranked() -> None:
    ari = [0.1, 0.2, 0.3, 0.4]
    good = fits("A1", ari=ari, silhouette=ari)
    control = [r | {keys.METHOD: "untrained", keys.SETTING: "x"} for r in fits("A1", ari=[9], silhouette=[0])]
    failed = [row("A1", "e", 0, None)]
    pd.testing.assert_frame_equal(
        objective_agreement(frame(good, control, failed)), objective_agreement(frame(good))
    )


VALUES = st.lists(st.integers(0, 20).map(lambda i: i / 20), min_size=5, max_size=5)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=4))
def test_the_correlation_is_that_of_scipy_whatever_the_scale(
    patients: list[tuple[list[float], list[float]]],
) -> None:
    groups = [fits(f"{p}1", ari=x, silhouette=y) for p, (x, y) in zip("ABCD", patients, strict=False)]
    found = agreement(frame(*groups), keys.SILHOUETTE)
    expected = [stats.spearmanr(x, y).statistic for x, y in patients if len(set(x)) > 1 and len(set(y)) > 1]
    assert found["n_patients"] == len(expected)
    if expected:
        assert found["spearman"] == pytest.approx(np.mean(expected))
    stretched = frame(*groups).assign(silhouette=lambda table: np.exp(3 * table["silhouette"]))
    pd.testing.assert_series_equal(agreement(stretched, keys.SILHOUETTE), found)


def test_the_printed_table_fits_80_columns() -> None:
    ari = [0.1, 0.2, 0.3, 0.4]
    groups = [fits(f"{p}1", ari=ari, silhouette=ari, loss_last=[3, 2, 1, 4]) for p in "ABCD"]
    console = Console(file=io.StringIO(), width=80)
    for table in format_agreement(objective_agreement(frame(*groups))):
        console.print(table)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    silhouette = next(line for line in lines if line.startswith("silhouette"))
    assert silhouette.split()[-6:] == ["+1.000", "+1.000", "to", "+1.000", "4", "4"]
    assert any(line.startswith("loss_last (lower is better)") for line in lines)
    assert "chaos, pas, stability: not measured" in "\n".join(lines)

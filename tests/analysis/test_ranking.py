from __future__ import annotations

import math
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from senca_ray.analysis.ranking import rank_agreement, rank_methods

FEW = settings(max_examples=25, deadline=None)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Scores of 3 to 6 methods over 2 to 7 units, in tenths so that they tie."""
    n, k = draw(st.integers(2, 7)), draw(st.integers(3, 6))
    whole = draw(st.lists(st.integers(0, 10), min_size=n * k, max_size=n * k))
    return pd.DataFrame(np.reshape(whole, (n, k)) / 10, columns=[f"m{i}" for i in range(k)])


def by_hand() -> pd.DataFrame:
    return pd.DataFrame(
        {"a": [0.9, 0.8, 0.5], "b": [0.7, 0.6, 0.6], "c": [0.5, 0.7, 0.3], "d": [0.1, 0.2, 0.1]},
        index=["A", "B", "C"],
    )


def test_friedman_and_nemenyi_by_hand() -> None:
    # Ranks 1 2 3 4, 1 3 2 4, 2 1 3 4: sums 4, 6, 8, 12.
    # chi2 = 12 / (3 * 4 * 5) * (16 + 36 + 64 + 144) - 3 * 3 * 5 = 52 - 45 = 7, with 3 degrees of freedom.
    found = rank_methods(by_hand())
    assert (found.methods, found.n, found.left_out) == (("a", "b", "c", "d"), 3, 0)
    assert found.mean_ranks.to_dict() == pytest.approx({"a": 4 / 3, "b": 2, "c": 8 / 3, "d": 4})
    assert found.friedman_chi2 == pytest.approx(7)
    assert found.friedman_p == pytest.approx(stats.chi2.sf(7, 3))
    # Ranks of a and d differ by 8/3; the unit is sqrt(4 * 5 / (6 * 3)) = 1.0541, q = 2.530 (times sqrt 2).
    expected = stats.studentized_range.sf(8 / 3 / math.sqrt(20 / 18) * math.sqrt(2), 4, np.inf)
    assert found.nemenyi.loc["a", "d"] == found.nemenyi.loc["d", "a"] == pytest.approx(expected)
    # q at 0.05 for 4 methods is 2.569 (Demsar 2006, Table 5a).
    assert found.critical_difference == pytest.approx(2.569 * 1.0541, abs=0.001)
    assert found.remark == (
        "with 3 units the p-values of Friedman and Nemenyi are rough approximations and say little"
    )


@pytest.mark.parametrize(("k", "q"), [(3, 2.343), (5, 2.728), (8, 3.031), (10, 3.164)])
def test_critical_difference_is_that_of_the_published_table(k: int, q: float) -> None:
    scores = pd.DataFrame(np.random.default_rng(k).random((12, k)))
    found = rank_methods(scores)
    assert found.critical_difference == pytest.approx(q * math.sqrt(k * (k + 1) / 72), abs=0.001)
    assert found.remark == ""


def test_critical_difference_of_the_published_example() -> None:
    # Demsar (2006), section 3.2.2: four methods on 14 data sets, 2.569 * sqrt(4 * 5 / (6 * 14)) = 1.25.
    found = rank_methods(pd.DataFrame(np.random.default_rng(0).random((14, 4))))
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)


@FEW
@given(tables())
def test_friedman_is_the_variance_of_rank_sums_over_that_of_ranks(scores: pd.DataFrame) -> None:
    n, k = scores.shape
    ranks = np.array([stats.rankdata(-row) for row in scores.to_numpy()])
    found = rank_methods(scores)
    assert found.mean_ranks.to_numpy() == pytest.approx(ranks.mean(axis=0))
    # Conover's form, which needs no correction for ties.
    between, within = ((ranks.sum(axis=0) - n * (k + 1) / 2) ** 2).sum(), ((ranks - (k + 1) / 2) ** 2).sum()
    chi2 = (k - 1) * between / within if within else 0.0
    assert found.friedman_chi2 == pytest.approx(chi2, abs=1e-9)
    assert found.friedman_p == pytest.approx(stats.chi2.sf(chi2, k - 1))
    assert ("all methods score the same" in found.remark) == (within == 0)


@FEW
@given(tables())
def test_nemenyi_agrees_with_the_critical_difference(scores: pd.DataFrame) -> None:
    found = rank_methods(scores)
    p, ranks = found.nemenyi.to_numpy(), found.mean_ranks.to_numpy()
    np.testing.assert_array_equal(p, p.T)
    assert (np.diag(p) == 1).all()
    assert ((p >= 0) & (p <= 1)).all()
    apart = np.abs(ranks[:, None] - ranks)
    assert (p[apart > found.critical_difference * 1.001] < 0.05).all()
    assert (p[apart < found.critical_difference * 0.999] > 0.05).all()


@FEW
@given(tables(), st.randoms(use_true_random=False))
def test_ranks_ignore_order_and_any_rising_scale(scores: pd.DataFrame, order: random.Random) -> None:
    columns = order.sample(list(scores.columns), scores.shape[1])
    rows = order.sample(list(scores.index), len(scores))
    here, there = rank_methods(scores), rank_methods(np.exp(3 * scores).loc[rows, columns])
    assert there.methods == tuple(columns)
    assert there.mean_ranks[list(scores.columns)].to_numpy() == pytest.approx(here.mean_ranks.to_numpy())
    assert there.friedman_p == pytest.approx(here.friedman_p)
    assert there.nemenyi.loc[scores.columns, scores.columns].to_numpy() == pytest.approx(
        here.nemenyi.to_numpy()
    )


def test_float_noise_does_not_break_a_tie() -> None:
    scores = by_hand()
    scores["b"] = scores["a"] + 1e-15
    assert rank_methods(scores).mean_ranks.to_dict() == pytest.approx({"a": 1.5, "b": 1.5, "c": 3, "d": 4})


def test_units_without_a_score_of_every_method_are_left_out() -> None:
    scores = by_hand()
    scores.loc["X"] = [0.1, math.nan, 0.9, 0.8]
    scores.loc["Y"] = [0.1, math.nan, math.nan, 0.8]
    found, without = rank_methods(scores), rank_methods(by_hand())
    assert (found.n, found.left_out) == (3, 2)
    assert found.friedman_p == without.friedman_p
    assert found.remark == f"2 of 5 units left out, without a score of b, c; {without.remark}"


@pytest.mark.parametrize(
    ("rows", "columns", "why"),
    [
        (3, 2, "2 methods over 3 units: a Friedman test needs at least 3 methods and 2 units"),
        (1, 4, "4 methods over 1 units: a Friedman test needs at least 3 methods and 2 units"),
        (0, 4, "4 methods over 0 units: a Friedman test needs at least 3 methods and 2 units"),
    ],
)
def test_too_little_to_rank_is_a_remark(rows: int, columns: int, why: str) -> None:
    found = rank_methods(by_hand().iloc[:rows, :columns])
    assert found.remark == why
    assert all(map(math.isnan, (found.friedman_chi2, found.friedman_p, found.critical_difference)))
    assert found.nemenyi.shape == (columns, columns)
    assert found.nemenyi.isna().all(axis=None)
    assert found.mean_ranks.isna().all() == (rows == 0)


def test_rank_agreement_by_hand() -> None:
    a = pd.Series({"w": 0.4, "x": 0.3, "y": 0.2, "z": 0.1})
    # One of six pairs turned round: (5 - 1) / 6.
    assert rank_agreement(a, pd.Series({"x": 0.9, "w": 0.8, "z": 0.1, "y": 0.5})) == pytest.approx(4 / 6)
    # x and y tie on one side: 5 pairs agree, tau-b = 5 / sqrt(6 * 5).
    tied = pd.Series({"w": 0.4, "x": 0.3, "y": 0.3 + 1e-15, "z": 0.1})
    assert rank_agreement(a, tied) == pytest.approx(5 / math.sqrt(30))


@FEW
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=8))
def test_rank_agreement_is_kendalls_and_symmetric(pairs: list[tuple[int, int]]) -> None:
    a, b = (pd.Series(side, dtype=float) for side in zip(*pairs, strict=True))
    found = rank_agreement(a, b)
    assert found == pytest.approx(stats.kendalltau(a, b).statistic, nan_ok=True)
    assert rank_agreement(b[::-1], a) == pytest.approx(found, nan_ok=True)
    assert rank_agreement(a, -b) == pytest.approx(-found, nan_ok=True)
    if a.nunique() > 1:
        assert rank_agreement(a, a) == pytest.approx(1)


def test_rank_agreement_is_over_methods_on_both_sides() -> None:
    a = pd.Series({"w": 0.4, "x": 0.3, "y": 0.2, "z": math.nan})
    b = pd.Series({"x": 0.5, "w": 0.7, "z": 0.9, "v": 0.1})
    assert rank_agreement(a, b) == pytest.approx(1)
    assert math.isnan(rank_agreement(a, b[["x"]]))
    assert math.isnan(rank_agreement(a, pd.Series({"w": 0.1, "x": 0.1})))

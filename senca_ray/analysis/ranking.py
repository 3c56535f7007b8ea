"""Many methods at once: mean ranks, Friedman's test and Nemenyi's comparison of all pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from senca_ray.analysis.statistics import DECIMALS, FEW, SIGNIFICANCE

_LARGE_SAMPLE = 10
"""Up to this many units the distributions used are rough (scipy's note on friedmanchisquare)."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Methods ranked over units (patients or sections); NaN where a test cannot be run."""

    methods: tuple[str, ...]
    n: int
    """Units with a score of every method."""
    left_out: int
    """Units without a score of some method."""
    mean_ranks: pd.Series
    """Mean rank a method, 1 is best, ties share their mean rank; indexed by method."""
    friedman_chi2: float
    friedman_p: float
    """p that all methods rank alike: Friedman's test, chi-square distribution, corrected for ties."""
    nemenyi: pd.DataFrame
    """p of every pair, corrected for the number of methods; methods x methods, symmetric, diagonal 1."""
    critical_difference: float
    """Mean ranks that differ by this or more differ at 0.05 by Nemenyi's test."""
    remark: str
    """Why little can be said, in words; empty otherwise."""


def rank_methods(scores: pd.DataFrame) -> Ranking:
    """Rank methods by their scores (units x methods; higher is better, NaN where there is none).

    Units without a score of every method are left out, so leave out first a method that scored few of them.
    Fewer than 3 methods or 2 units give no test. Source: Demsar, JMLR 7 (2006), section 3.2.2.
    """
    methods = tuple(map(str, scores.columns))
    missing = scores.isna()
    complete = scores[~missing.any(axis=1)].round(DECIMALS)
    n, k = complete.shape
    left_out = len(scores) - n
    mean_ranks = pd.Series(complete.rank(axis=1, ascending=False).mean().to_numpy(float), index=list(methods))
    texts = []
    if left_out:
        holes = ", ".join(str(name) for name in scores.columns[missing.any()])
        texts.append(f"{left_out} of {len(scores)} units left out, without a score of {holes}")
    if k < 3 or n < 2:
        texts.append(f"{k} methods over {n} units: a Friedman test needs at least 3 methods and 2 units")
        nothing = pd.DataFrame(math.nan, index=list(methods), columns=list(methods))
        return Ranking(
            methods, n, left_out, mean_ranks, math.nan, math.nan, nothing, math.nan, "; ".join(texts)
        )
    if n <= _LARGE_SAMPLE:
        little = " and say little" if n < FEW else ""
        texts.append(f"with {n} units the p-values of Friedman and Nemenyi are rough approximations{little}")
    values = complete.to_numpy(float)
    chi2, p = 0.0, 1.0
    if np.ptp(values, axis=1).any():
        chi2, p = map(float, stats.friedmanchisquare(*values.T))
    else:
        texts.append("all methods score the same on every unit")
    # Nemenyi's q is the studentized range over the square root of 2.
    q = float(stats.studentized_range.isf(SIGNIFICANCE, k, np.inf)) / math.sqrt(2)
    return Ranking(
        methods=methods,
        n=n,
        left_out=left_out,
        mean_ranks=mean_ranks,
        friedman_chi2=chi2,
        friedman_p=p,
        nemenyi=_nemenyi(values, methods),
        critical_difference=q * math.sqrt(k * (k + 1) / (6 * n)),
        remark="; ".join(texts),
    )


def rank_agreement(a: pd.Series, b: pd.Series) -> float:
    """Kendall's tau-b between two orderings of the same methods: 1 the same order, -1 reversed.

    Both are indexed by method and hold the same kind of number (two scores, or two mean ranks). Methods
    without a number on both sides are left out; NaN with fewer than two, or where one side ties all.
    """
    both = pd.concat([a, b], axis=1, join="inner", keys=["a", "b"]).dropna().round(DECIMALS)
    if len(both) < 2:
        return math.nan
    return float(stats.kendalltau(both["a"], both["b"]).statistic)


def _nemenyi(values: np.ndarray, methods: tuple[str, ...]) -> pd.DataFrame:
    import scikit_posthocs  # brings matplotlib and seaborn: a second to import, for this one table

    p = scikit_posthocs.posthoc_nemenyi_friedman(values).to_numpy(float)
    return pd.DataFrame(p, index=list(methods), columns=list(methods))

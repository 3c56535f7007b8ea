"""What n paired differences show: tests, intervals, effect size, and what they could have shown at all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import special, stats

from senca_ray import keys
from senca_ray.analysis.statistics import DECIMALS, FEW, SIGNIFICANCE, paired_test, remark

POWER = 0.8
_CONFIDENCE = 1 - SIGNIFICANCE
_RESAMPLES = 9_999
"""Of the bootstrap, and of the sign flips where they are not all tried: 2**13 are fewer, 2**14 are not."""
_SEED = 0
_LARGEST_T = 1_000.0
"""Above it the spread is a thousandth of the mean and less; the noncentral t takes seconds to no purpose."""


@dataclass(frozen=True)
class Evidence:
    """What the differences of n units show; p-values are two-sided, NaN where something is not defined."""

    n: int
    """Units with a difference."""
    unit: str
    """One of keys.UNITS; with "section" the sections of one patient count as independent."""
    mean_difference: float
    interval_low: float
    """95 % interval of the mean difference: bootstrap over units, expanded percentile (see `evidence`)."""
    interval_high: float
    wins: int
    """Units whose difference is above zero."""
    ties: int
    """Units whose difference is zero."""
    t_p: float
    """p of the paired t-test."""
    wilcoxon_p: float
    """p of the Wilcoxon signed-rank test."""
    sign_flip_p: float
    """p of the sign-flip permutation test on the mean; all 2**n flips up to 13 units, then 9,999 drawn."""
    effect_size: float
    """Paired Cohen's d: mean over standard deviation (n - 1) of the differences."""
    effect_low: float
    """95 % interval of it, from the noncentral t distribution."""
    effect_high: float
    detectable: float
    """Smallest mean difference that n units with this standard deviation show with 80 % probability (paired
    t-test, two-sided, 0.05). It describes the design; a p above 0.05 says no more because of it."""
    remark: str
    """Why little can be said, in words; empty otherwise."""


def evidence(differences: np.ndarray, unit: str = keys.PATIENT) -> Evidence:
    """Everything that paired differences (n,) of scores of order one say about their mean; NaN are left out.

    The interval is scipy's percentile bootstrap of the mean with 9,999 seeded resamples, taken at the wider
    level that Hesterberg (The American Statistician 69, 2015, 371-386) calls expanded: resampled means vary
    too little by (n - 1) / n and have the quantiles of a normal instead of a t distribution. Over 1,500
    simulated normal samples the plain percentile interval covered the mean 87 % (n = 6), 89 % (8), 92 % (12)
    of the time, BCa the same, this one 94-96 %; over exponential ones of 6 to 8 this one 88-90 %, as the
    interval of the t-test. None is wider than the range of the differences: with 5 units it covers 90 %,
    with fewer the remark says what it can cover at most.
    """
    differences = np.asarray(differences, dtype=float)
    differences = np.round(differences[~np.isnan(differences)], DECIMALS)
    n, ties = len(differences), int((differences == 0).sum())
    tests = paired_test(differences, unit)
    low, high = _interval(differences)
    d, d_low, d_high = _effect(differences)
    detectable = math.nan
    if _spread(differences):
        detectable = _detectable_effect(n) * float(differences.std(ddof=1))
    return Evidence(
        n=n,
        unit=unit,
        mean_difference=tests.mean_difference,
        interval_low=low,
        interval_high=high,
        wins=tests.wins,
        ties=ties,
        t_p=tests.t_p,
        wilcoxon_p=tests.wilcoxon_p,
        sign_flip_p=_sign_flip(differences),
        effect_size=d,
        effect_low=d_low,
        effect_high=d_high,
        detectable=detectable,
        remark=_remark(differences, ties, tests.remark, unit),
    )


def _spread(differences: np.ndarray) -> bool:
    """Whether there are two differences that differ; without, only tests by sign are defined."""
    return len(differences) >= 2 and bool(np.ptp(differences) > 0)


def _oriented(differences: np.ndarray) -> tuple[np.ndarray, int]:
    """The differences in an order, and a direction, that do not depend on those of the units and sides.

    Drawn resamples then give the same p, and the mirrored interval, whoever was named first.
    """
    side = -1 if math.fsum(differences) < 0 else 1
    return np.sort(side * differences), side


def _interval(differences: np.ndarray) -> tuple[float, float]:
    if not _spread(differences):
        return math.nan, math.nan
    n = len(differences)
    oriented, side = _oriented(differences)
    wide = math.sqrt(n / (n - 1)) * stats.t.isf((1 - _CONFIDENCE) / 2, n - 1)
    found = stats.bootstrap(
        (oriented,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=1 - 2 * stats.norm.sf(wide),
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    low, high = sorted((side * float(found.low), side * float(found.high)))
    return low, high


def _sign_flip(differences: np.ndarray) -> float:
    if len(differences) < 2:
        return math.nan
    # In whole units of the last decimal sums are exact, so that no tie of two flips is lost to float noise.
    oriented, _ = _oriented(np.rint(differences * 10**DECIMALS))
    test = stats.permutation_test(
        (oriented,),
        np.sum,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return float(test.pvalue)


def _effect(differences: np.ndarray) -> tuple[float, float, float]:
    """Paired d and its interval: the noncentralities whose 97.5 % and 2.5 % points are the t found."""
    if not _spread(differences):
        return math.nan, math.nan, math.nan
    root, freedom = math.sqrt(len(differences)), len(differences) - 1
    d = float(differences.mean() / differences.std(ddof=1))
    if abs(d) * root > _LARGEST_T:
        return d, math.nan, math.nan
    tail = (1 - _CONFIDENCE) / 2
    low, high = (float(special.nctdtrinc(freedom, p, d * root)) / root for p in (1 - tail, tail))
    return d, low, high


@lru_cache
def _detectable_effect(n: int) -> float:
    from statsmodels.stats.power import TTestPower  # half a second to import, for this one figure

    power = TTestPower().solve_power(nobs=n, alpha=SIGNIFICANCE, power=POWER, alternative="two-sided")
    return float(power)


def _remark(differences: np.ndarray, ties: int, of_tests: str, unit: str) -> str:
    n, tests = len(differences), "Wilcoxon or sign-flip"
    texts = [of_tests, remark(n, unit=unit, test=tests)]
    if n >= 2 and not _spread(differences):
        texts.append("without spread there is no interval, effect size or detectable difference")
    elif n >= 2:
        if n < FEW:
            covered = 1 - 2 / 2**n
            texts.append(
                f"the bootstrap interval covers the mean in at most {covered:.0%} of cases, not 95 %"
            )
        smallest = 2 / 2 ** (n - ties)
        if ties and smallest > SIGNIFICANCE and n >= FEW:
            texts.append(
                f"{ties} of {n} differences are zero: with {n - ties} that are not, the smallest two-sided "
                f"{tests} p is {smallest:.2g}"
            )
    return "; ".join(dict.fromkeys(filter(None, texts)))

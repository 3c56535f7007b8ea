"""Tests between two settings or methods, paired over patients (or sections), and their corrections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from senca_ray import keys

SIGNIFICANCE = 0.05
FEW = 5
"""With fewer units than this no test is trusted, whatever its p."""

DECIMALS = 12
"""Differences of scores are rounded to this, so that float noise makes neither a win nor breaks a tie."""


@dataclass(frozen=True)
class PairedTest:
    """What a paired comparison over patients found; p-values are two-sided, NaN where not defined."""

    n: int
    """Patients with a score on both sides."""
    mean_difference: float
    """Mean over patients of value minus reference; NaN without patients."""
    t_p: float
    """p of the paired t-test."""
    wilcoxon_p: float
    """p of the Wilcoxon signed-rank test; exact up to 50 patients, up to 13 with ties or zeros."""
    wins: int
    """Patients whose value is above the reference."""
    remark: str = ""
    """Why a test could not be run, in words; empty otherwise."""


def average_within_sections(frame: pd.DataFrame, value: str = keys.ARI, by: Sequence[str] = ()) -> pd.Series:
    """Average seeds within a section, separately for every combination of the columns `by`.

    Rows without the value are left out. Returns a value a section, indexed by `by`, patient and sample.
    """
    return frame.dropna(subset=[value]).groupby([*by, keys.PATIENT, keys.SAMPLE])[value].mean()


def average_within_patients(frame: pd.DataFrame, value: str = keys.ARI, by: Sequence[str] = ()) -> pd.Series:
    """Average seeds within a section, then sections within a patient, for every combination of `by`.

    Sections of one patient are not independent, and a section counts the same whatever its number of seeds
    (design decision 15). Returns a value a patient, indexed by `by` and patient.
    """
    return average_within_sections(frame, value, by).groupby([*by, keys.PATIENT]).mean()


def paired_comparison(values: pd.Series, reference: pd.Series) -> PairedTest:
    """Compare scores (of order one, indexed by patient) with a reference over the patients in both."""
    paired = pd.concat([values, reference], axis=1, join="inner", keys=["value", "reference"]).dropna()
    return paired_test((paired["value"] - paired["reference"]).to_numpy(float))


def paired_differences(values: pd.Series, reference: pd.Series, unit: str = keys.PATIENT) -> np.ndarray:
    """Differences value minus reference over the sections scored on both sides, one a unit, in sorted order.

    Both are indexed by patient and sample and hold a score a section, its seeds averaged before; `unit` is
    one of keys.UNITS: "section" keeps sections, "patient" averages them within the patient. Returns (n,).
    Raises ValueError for another unit, or where a section has more than one score.
    """
    if unit not in keys.UNITS:
        raise ValueError(f"unit {unit!r} found; expected one of {', '.join(keys.UNITS)}")
    for side in (values, reference):
        repeated = side.index[side.index.duplicated()]
        if len(repeated):
            raise ValueError(
                f"more than one score of section {repeated[0][-1]} found; expected one a section: average "
                "seeds first (average_within_sections)"
            )
    differences = (values - reference).dropna().sort_index()
    if unit == keys.PATIENT:
        differences = differences.groupby(level=keys.PATIENT).mean()
    return differences.to_numpy(float)


def compare_sections(
    values: pd.DataFrame, reference: pd.DataFrame
) -> list[tuple[PairedTest, tuple[str, ...]]]:
    """Compare each column with the same column of the reference, over the sections scored in both.

    Both are indexed by patient and sample and hold a score a section, NaN where there is none. Differences
    are averaged within the patient before a test. Returns, for each column, the test and the samples scored
    on one side only, sorted.
    """
    values, reference = values.align(reference, join="outer", axis=0)
    by_patient = (values - reference).groupby(level=keys.PATIENT).mean().to_numpy(float)
    one_sided = values.notna().to_numpy(bool) ^ reference.notna().to_numpy(bool)
    samples = values.index.get_level_values(keys.SAMPLE)
    return [
        (paired_test(column[~np.isnan(column)]), tuple(sorted(samples[apart])))
        for column, apart in zip(by_patient.T, one_sided.T, strict=True)
    ]


def paired_test(differences: np.ndarray, unit: str = keys.PATIENT) -> PairedTest:
    """The paired tests of differences (n,) without NaN, one a unit; `unit` is the word for it in remarks."""
    differences = np.round(differences, DECIMALS)
    n, wins = len(differences), int((differences > 0).sum())
    mean = float(differences.mean()) if n else math.nan
    if n < 2:
        return PairedTest(n, mean, math.nan, math.nan, wins, remark(n, unit=unit))
    if not differences.any():
        return PairedTest(n, mean, 1.0, 1.0, wins, "all differences are zero")
    wilcoxon_p = float(stats.wilcoxon(differences).pvalue)
    if np.ptp(differences) == 0:
        why = "all differences are equal, so the t-test is not defined"
        return PairedTest(n, mean, math.nan, wilcoxon_p, wins, why)
    return PairedTest(n, mean, float(stats.ttest_1samp(differences, 0).pvalue), wilcoxon_p, wins)


@dataclass(frozen=True)
class OneSampleTest:
    """Measured scores against a mean that a paper prints without scores a section; NaN where not defined.

    Weaker than a paired test: nothing is known of the published side but its mean, so all the spread between
    units counts against the comparison and a difference of protocols counts for or against it.
    """

    n: int
    """Units measured."""
    mean: float
    """Mean of the measured scores."""
    published_mean: float
    mean_difference: float
    """Measured minus published."""
    t_p: float
    """p of the one-sample t-test against the published mean, two-sided."""
    wilcoxon_p: float
    """p of the Wilcoxon signed-rank test of the scores' middle against the published mean, two-sided."""
    remark: str
    """What this test cannot say; never empty."""
    test: str = "one-sample"


def one_sample(values: np.ndarray, published_mean: float, unit: str = keys.PATIENT) -> OneSampleTest:
    """Test scores (n,), one a unit, against a published mean; NaN scores are left out."""
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    n = len(values)
    found = paired_test(values - published_mean)
    cannot = f"with {_count(n, unit)} no test can be run" if n < 2 else remark(n, unit=unit)
    texts = (
        "one-sample test: of the published number only the mean is known, not its spread over sections and "
        "seeds, and its protocol may differ",
        found.remark if n >= 2 else "",
        cannot,
    )
    return OneSampleTest(
        n=n,
        mean=float(values.mean()) if n else math.nan,
        published_mean=published_mean,
        mean_difference=found.mean_difference,
        t_p=found.t_p,
        wilcoxon_p=found.wilcoxon_p,
        remark="; ".join(filter(None, texts)),
    )


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction of one family of p-values; tests that were not run stay NaN, uncounted."""
    corrected = np.asarray(pvalues, dtype=float).copy()
    ascending = np.argsort(corrected, kind="stable")[: np.count_nonzero(~np.isnan(corrected))]
    steps = corrected[ascending] * np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def benjamini_hochberg(pvalues: Sequence[float]) -> np.ndarray:
    """Benjamini-Hochberg's correction of one family of p-values; tests not run stay NaN, uncounted.

    It bounds the expected share of false findings among all findings, Holm's the chance of a single one.
    """
    corrected = np.asarray(pvalues, dtype=float).copy()
    run = ~np.isnan(corrected)
    corrected[run] = stats.false_discovery_control(corrected[run])
    return corrected


def correct_family(family: Sequence[dict[str, Any]]) -> None:
    """Add Holm's correction and what the number of patients cannot show to one family of compared rows.

    A row holds t_p, wilcoxon_p, n_paired and remark; it gets t_p_holm and wilcoxon_p_holm.
    """
    for name in ("t_p", "wilcoxon_p"):
        for row, corrected in zip(family, holm([row[name] for row in family]), strict=True):
            row[f"{name}_holm"] = float(corrected)
    n_tests = sum(not math.isnan(row["wilcoxon_p"]) for row in family)
    for row in family:
        if row["n_paired"]:
            texts = (*row["remark"].split("; "), remark(row["n_paired"], n_tests))
            row["remark"] = "; ".join(dict.fromkeys(filter(None, texts)))


def remark(n_units: int, n_tests: int = 1, unit: str = keys.PATIENT, test: str = "Wilcoxon") -> str:
    """What `n_units` cannot show, in words; empty where a test by signs (`test` names it) can reach 0.05.

    The smallest two-sided p of a Wilcoxon or sign-flip test is 2 / 2**n: all differences of one sign. Holm's
    correction multiplies the smallest of `n_tests` p-values by their number.
    """
    units = _count(n_units, unit)
    if n_units < 2:
        return f"with {units} no paired test can be run"
    smallest = 2 / 2**n_units
    if n_units < FEW:
        return (
            f"with {units} the smallest two-sided {test} p is {smallest:.2g} and the t-test rests on an "
            "assumption that cannot be checked: no difference can be called significant"
        )
    corrected = min(1.0, smallest * n_tests)
    if corrected <= SIGNIFICANCE:
        return ""
    after = f" ({corrected:.2g} after Holm over {n_tests} tests)" if n_tests > 1 else ""
    return (
        f"with {units} the smallest two-sided {test} p is {smallest:.2g}{after}: "
        "no difference can be called significant by it"
    )


def _count(n: int, unit: str) -> str:
    return f"{n} {unit}{'s' if n != 1 else ''}"

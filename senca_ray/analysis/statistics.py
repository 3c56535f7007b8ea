"""Paired tests between two settings or methods, with the patient as the unit."""

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
_DECIMALS = 12
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
    return _paired_test((paired["value"] - paired["reference"]).to_numpy(float))


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
        (_paired_test(column[~np.isnan(column)]), tuple(sorted(samples[apart])))
        for column, apart in zip(by_patient.T, one_sided.T, strict=True)
    ]


def _paired_test(differences: np.ndarray) -> PairedTest:
    differences = np.round(differences, _DECIMALS)
    n, wins = len(differences), int((differences > 0).sum())
    mean = float(differences.mean()) if n else math.nan
    if n < 2:
        return PairedTest(n, mean, math.nan, math.nan, wins, remark(n))
    if not differences.any():
        return PairedTest(n, mean, 1.0, 1.0, wins, "all differences are zero")
    wilcoxon_p = float(stats.wilcoxon(differences).pvalue)
    if np.ptp(differences) == 0:
        why = "all differences are equal, so the t-test is not defined"
        return PairedTest(n, mean, math.nan, wilcoxon_p, wins, why)
    return PairedTest(n, mean, float(stats.ttest_1samp(differences, 0).pvalue), wilcoxon_p, wins)


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """Holm's step-down correction of one family of p-values; tests that were not run stay NaN, uncounted."""
    corrected = np.asarray(pvalues, dtype=float).copy()
    ascending = np.argsort(corrected, kind="stable")[: np.count_nonzero(~np.isnan(corrected))]
    steps = corrected[ascending] * np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(steps), 1)
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


def remark(n_patients: int, n_tests: int = 1) -> str:
    """What `n_patients` cannot show, in words; empty where a Wilcoxon test can reach 0.05.

    The smallest two-sided Wilcoxon p is 2 / 2**n: all differences of one sign. Holm's correction multiplies
    the smallest of `n_tests` p-values by their number.
    """
    patients = f"{n_patients} patient{'s' if n_patients != 1 else ''}"
    if n_patients < 2:
        return f"with {patients} no paired test can be run"
    smallest = 2 / 2**n_patients
    if n_patients < 5:
        return (
            f"with {patients} the smallest two-sided Wilcoxon p is {smallest:.2g} and the t-test rests on an "
            "assumption that cannot be checked: no difference can be called significant"
        )
    corrected = min(1.0, smallest * n_tests)
    if corrected <= SIGNIFICANCE:
        return ""
    after = f" ({corrected:.2g} after Holm over {n_tests} tests)" if n_tests > 1 else ""
    return (
        f"with {patients} the smallest two-sided Wilcoxon p is {smallest:.2g}{after}: "
        "no difference can be called significant by it"
    )

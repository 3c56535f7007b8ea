"""Statistics and their footing in words, for readers who do not read tables of tests."""

from __future__ import annotations

from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.statistics import FEW, SIGNIFICANCE
from senca_ray.report.view import StudyView

_SMALL_P = 0.001
_TESTS = (("sign_flip_p_holm", "sign-flip test"), ("wilcoxon_p_holm", "Wilcoxon's test"))
"""Of the tests that a summary may hold, the first it has is told; both are of ranks or signs alone."""


def number(value: Any, form: str) -> str:
    """A number as the page shows it: a true minus sign, a dash for nothing."""
    return "–" if pd.isna(value) else format(float(value), form).replace("-", "−")


def small_p(value: Any) -> str:
    """A p-value among many: no digits that nobody can rely on."""
    return f"< {_SMALL_P}" if value < _SMALL_P else number(value, ".2g")


def counted(n: int, noun: str) -> str:
    """'1 section', '2 sections'."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def comparison(row: dict[Any, Any], unit: str, reference: str) -> str:
    """A compared row of the summary in one sentence without its end; `reference` is what it is compared with.

    For example 'better than the default on 7 of 8 patients; mean difference +0.06, 95 % interval +0.01 to
    +0.11; p = 0.02 after correction (Wilcoxon's test): told apart from the default'.
    """
    n = 0 if pd.isna(row["n_paired"]) else int(row["n_paired"])
    if not n:
        return f"not compared: no {unit} has a score of both it and {reference}"
    said = f"better than {reference} on {row['wins']} of {counted(n, unit)}"
    difference = row["mean_difference"]
    said += f"; mean difference {number(difference, '+.2f' if abs(difference) >= 0.01 else '+.3f')}"
    if pd.notna(row.get("interval_low")):
        low, high = (number(row[f"interval_{end}"], "+.2f") for end in ("low", "high"))
        said += f", 95 % interval {low} to {high}"
    if n < FEW:
        return f"{said}; {counted(n, unit)} {'is' if n == 1 else 'are'} too few for any test"
    name, test = next(((name, test) for name, test in _TESTS if pd.notna(row.get(name))), ("", ""))
    if not name:
        return f"{said}; no test could be run"
    p = small_p(row[name])
    said += f"; p {p if p.startswith('<') else f'= {p}'} after correction ({test})"
    if row[name] < SIGNIFICANCE:
        return f"{said}: told apart from {reference}"
    return f"{said}: not told apart from {reference}, chance alone could give such a difference"


def compared_with(consensus: bool, reference: str) -> str:
    """What a row is compared with: a consensus only with another."""
    return f"the consensus of {reference}" if consensus else reference


def footing(view: StudyView) -> str:
    """Whether a study's scores are test scores, tuning scores or neither, and what follows."""
    kind = view.description["kind"]
    if kind == "benchmark":
        return (
            "Nothing was tuned here: the settings of all methods were fixed before the study began. The best "
            "of many methods is still partly the best by chance."
        )
    if kind == "search":
        if keys.TUNED in set(view.compared[keys.SETTING]):
            return (
                "Test scores in the rows named tuned: of patients whose sections took no part in the choice. "
                "All other scores of chosen settings are tuning scores, which flatter."
            )
        return "No test scores: the sections shown took part in choosing the setting, which flatters it."
    return (
        "The default was fixed beforehand. Whoever picks the best of the other settings from this page has "
        "tuned on these sections: its score here is then a tuning score, no test."
    )


def regions_policy(k_policy: str) -> str:
    """How many regions a section gets, and what that means for new tissue."""
    if k_policy == "labels":
        return "As many as each section has labels: an oracle, because with new tissue nobody knows it."
    if k_policy == "auto":
        return "Chosen for each section without its labels, where the silhouette is highest (k = auto)."
    return f"Set beforehand ({k_policy})."

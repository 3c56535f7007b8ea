from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from senca_ray.report.view import load_study
from senca_ray.report.words import comparison, footing, regions_policy


def _row(**changed: Any) -> dict[str, Any]:
    known = {"n_paired": 8, "wins": 7, "mean_difference": 0.06, "wilcoxon_p_holm": 0.02}
    return known | changed


def test_a_comparison_reads_as_a_sentence() -> None:
    said = comparison(_row(interval_low=0.01, interval_high=0.11), "patient", "the default")
    assert said == (
        "better than the default on 7 of 8 patients; mean difference +0.06, 95 % interval +0.01 to +0.11; "
        "p = 0.02 after correction (Wilcoxon's test): told apart from the default"
    )


def test_what_is_not_known_is_not_said() -> None:
    said = comparison(_row(wilcoxon_p_holm=0.3, mean_difference=-0.06, wins=1), "patient", "the default")
    assert "interval" not in said and "mean difference −0.06; p = 0.3" in said
    assert "not told apart from the default" in said
    none = comparison(_row(wilcoxon_p_holm=math.nan), "section", "senca")
    assert none.endswith("on 7 of 8 sections; mean difference +0.06; no test could be run")


@pytest.mark.parametrize(("n", "words"), [(1, "1 patient is too few"), (4, "4 patients are too few")])
def test_too_few_units_have_no_p(n: int, words: str) -> None:
    said = comparison(_row(n_paired=n, wins=1, wilcoxon_p_holm=0.01), "patient", "the default")
    assert words in said and "p =" not in said and "told apart" not in said


@pytest.mark.parametrize("n", [0, math.nan])
def test_nothing_to_compare(n: float) -> None:
    assert comparison(_row(n_paired=n), "patient", "the default").startswith("not compared: no patient")


def test_of_two_tests_the_one_by_signs_is_told() -> None:
    said = comparison(_row(sign_flip_p_holm=0.0001), "patient", "senca")
    assert "p < 0.001 after correction (sign-flip test)" in said


def test_every_kind_of_study_says_what_its_scores_are(finished: Path, search: Path, benchmark: Path) -> None:
    assert "a tuning score, no test" in footing(load_study(finished))
    assert footing(load_study(search)).startswith("Test scores in the rows named tuned")
    assert footing(load_study(benchmark)).startswith("Nothing was tuned here")


def test_k_policies_in_words() -> None:
    assert "oracle" in regions_policy("labels")
    assert "silhouette is highest" in regions_policy("auto")
    assert regions_policy("fixed:6") == "Set beforehand (fixed:6)."

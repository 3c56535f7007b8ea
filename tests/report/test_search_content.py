from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from senca_ray import keys
from senca_ray.report.search import lower_is_better, range_text, score_name, search_content, suggestions
from senca_ray.report.view import load_study


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"low": 0.1, "high": 100.0, "log": True, "step": None}, "0.1 to 100, logarithmic"),
        ({"low": 4, "high": 16, "log": False, "step": 4}, "4 to 16 in steps of 4"),
        ({"low": 0.0, "high": 0.5, "log": False, "step": None}, "0 to 0.5"),
        ([4, 8, 16], "4, 8, 16"),
    ],
)
def test_ranges_in_words(given: dict[str, Any] | list[int], words: str) -> None:
    assert range_text(given) == words


def test_which_way_a_tuning_score_is_better() -> None:
    assert lower_is_better({"aggregate": "mean"}, keys.CHAOS) and not lower_is_better(
        {"aggregate": "mean"}, keys.ARI
    )
    assert not lower_is_better({"aggregate": "rank"}, keys.CHAOS), "beating more of the others is better"
    assert score_name({"aggregate": "median"}, keys.LOSS_LAST) == "median last loss over patients"


def test_suggestions_hold_the_values_of_every_searched_field(search: Path) -> None:
    view = load_study(search)
    found = suggestions(view, view.folds)
    told = json.loads((search / keys.SELECTION_FILE).read_text())["folds"]
    assert len(found) == sum(len(fold["suggestions"]) for fold in told)
    default = found[found["label"] == "default"]
    assert default[["mse_weight", "neighbors", "hvgs"]].drop_duplicates().values.tolist() == [[40.0, 4, 500]]
    one = told[0]["suggestions"][2]
    row = found[(found["fold"] == "all") & (found["number"] == 2)].iloc[0]
    assert {name: row[name] for name in one["changes"]} == one["changes"]
    assert row[keys.ARI] == one["values"][0]
    assert found[found["state"] == "failed"][keys.ARI].isna().all()


def test_a_fold_that_tried_nothing_has_no_suggestions(search: Path) -> None:
    view = load_study(search)
    assert suggestions(view, [view.main_fold | {"suggestions": []}]).empty


def test_agreement_counts_the_folds_that_leave_a_patient_out(search: Path) -> None:
    view = load_study(search)
    assert view.selection is not None
    for fold, label in zip(view.folds[1:], "xxyx", strict=True):
        fold["chosen"] = label
    view.folds[0]["chosen"] = "y"
    assert search_content(view, view.selection)["agreement"] == (3, 4)

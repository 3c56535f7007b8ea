"""What a search tried, what it chose and on whom that was tested: rows and words for a page and a W&B run."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from senca_ray import keys
from senca_ray.analysis.objectives import HIGHER_IS_BETTER
from senca_ray.analysis.selection import (
    WITHOUT_LABELS,
    choices,
    needs_no_labels,
    selection_claim,
    suggestion_table,
)
from senca_ray.keys import COMPLETE, FAILED, RACED, TUNED
from senca_ray.report.view import StudyView

_BEST = 10
"""Suggestions in the page's table."""
_WORDS = {
    keys.ARI: "ARI",
    keys.SILHOUETTE: "silhouette",
    keys.NMI: "NMI",
    keys.CHAOS: "CHAOS",
    keys.PAS: "PAS",
    keys.LOSS_LAST: "last loss",
    keys.STABILITY: "stability over seeds",
    keys.SECONDS: "seconds of a fit",
}
_HOW = {
    "mean": "mean {} over patients",
    "median": "median {} over patients",
    "rank": "share of the others beaten in {}",
}
_FOLDS = {keys.FOLD_ALL: "all patients", keys.FOLD_SPLIT: "the tuning patients"}


def objective_name(objective: str) -> str:
    """An objective in words."""
    return _WORDS.get(objective, objective)


def score_name(description: dict[str, Any], objective: str) -> str:
    """The tuning score of an objective in words, for example 'mean ARI over patients'."""
    return _HOW[description["aggregate"]].format(objective_name(objective))


def lower_is_better(description: dict[str, Any], objective: str) -> bool:
    """True for tuning scores that a search makes small; of others beaten, more is always better."""
    return description["aggregate"] != "rank" and not HIGHER_IS_BETTER[objective]


def suggestions(view: StudyView, folds: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a suggestion of these folds, sorted by fold and number.

    Columns: fold, number, label, state, patients (with a score), the objectives (NaN without a tuning score)
    and the searched fields.
    """
    description = view.description
    known = ("number", "label", "state", "patients")
    columns = ["fold", *known, *description["objectives"], *description["space"]]
    rows = []
    for fold in folds:
        for one in fold["suggestions"]:
            scores = one["values"] or [float("nan")] * len(description["objectives"])
            setting = description["setting"] | one["changes"]
            rows.append(
                {"fold": fold["name"]}
                | {name: one[name] for name in known}
                | dict(zip(description["objectives"], scores, strict=True))
                | {field: setting[field] for field in description["space"]}
            )
    return pd.DataFrame(rows, columns=columns).sort_values(["fold", "number"], ignore_index=True)


def search_content(view: StudyView, selection: dict[str, Any]) -> dict[str, Any]:
    """What the page's template says of a search, besides its figures."""
    description, main = view.description, view.main_fold
    objectives = description["objectives"]
    chosen = choices(selection, view.results)
    tried = suggestion_table(selection)
    states = Counter(tried["state"])
    tests = [name for name in map(str, chosen) if name.startswith("test_") and name != "test_patients"]
    tests = [name for name in tests if chosen[name].notna().any()]
    compared = [name for name in objectives if f"control_{name}" in chosen]
    tested = TUNED in set(view.compared[keys.SETTING])
    return {
        "tested": tested,
        "claim": selection_claim(selection),
        "tuning": [(f"tuning_{name}", score_name(description, name)) for name in objectives],
        "controls": [(f"control_{name}", f"best_control_{name}", objective_name(name)) for name in compared],
        "beaten": [row for name in compared for row in _beaten(chosen, main["name"], name)],
        "without_labels": WITHOUT_LABELS if needs_no_labels(selection) else None,
        "better": ["lower" if lower_is_better(description, name) else "higher" for name in objectives],
        "test": [(name, objective_name(name.removeprefix("test_"))) for name in tests] if tested else [],
        "fold": _FOLDS.get(main["name"], main["name"]),
        "states": {state: states[state] for state in (COMPLETE, RACED, FAILED)},
        "choices": [row | {"words": _chosen_on(row)} for row in chosen.to_dict("records")],
        "chosen": main["chosen"],
        "front": main["front"],
        "agreement": _agreement(view.folds),
        "best": tried.head(_BEST).to_dict("records"),
    }


def _beaten(chosen: pd.DataFrame, fold: str, objective: str) -> list[dict[str, Any]]:
    """Of the fold to go on with: the control that is better than the setting chosen, if one is."""
    row = chosen[chosen["fold"] == fold].iloc[0]
    score, control = row[f"tuning_{objective}"], row[f"control_{objective}"]
    if not (control > score if HIGHER_IS_BETTER[objective] else control < score):
        return []
    return [
        {
            "objective": objective_name(objective),
            "chosen": score,
            "control": control,
            "name": row[f"best_control_{objective}"],
        }
    ]


def _chosen_on(row: dict[Any, Any]) -> str:
    return _FOLDS.get(row["fold"], f"all patients but {row['test_patients']}")


def _agreement(folds: list[dict[str, Any]]) -> tuple[int, int] | None:
    """How many of the folds that leave patients out chose the most frequent setting, and of how many."""
    chosen = [fold["chosen"] for fold in folds if fold["test_samples"] and fold["chosen"]]
    return (max(Counter(chosen).values()), len(chosen)) if len(chosen) > 1 else None


def value_text(value: Any) -> str:
    """A setting's value as tables show it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def range_text(given: dict[str, Any] | list[Any]) -> str:
    """A searched range in words: '0.1 to 100, logarithmic', '4 to 16 in steps of 4' or '4, 8, 16'."""
    if isinstance(given, list):
        return ", ".join(value_text(value) for value in given)
    words = f"{value_text(given['low'])} to {value_text(given['high'])}"
    if given.get("log"):
        return f"{words}, logarithmic"
    return f"{words} in steps of {value_text(given['step'])}" if given.get("step") else words

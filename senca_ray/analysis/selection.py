"""What a search chose, and the rows by which a choice may be tested: those of patients left out of it.

Everything called a test score comes from `_test_rows`: a fold's chosen setting on the fold's test samples,
which `read_selection` has checked to be apart from its tuning samples. Tuning scores are never among them.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from senca_ray import keys
from senca_ray.analysis.blocks import BLOCK, block_title
from senca_ray.analysis.objectives import HIGHER_IS_BETTER, section_objectives
from senca_ray.analysis.terminal import count, number, plain_table
from senca_ray.errors import Problem, ProblemsError, SencaError
from senca_ray.keys import DEFAULT, FOLD_ALL, TUNED
from senca_ray.study.objective import AGGREGATES, MAXIMISE, NEED_LABELS, RANK, direction

_STATES = (keys.COMPLETE, keys.RACED, keys.FAILED)
COMPARED = (keys.STABILITY, keys.CHAOS, keys.PAS)
"""Scores without labels by which methods compare: a silhouette and a loss are of each method's own making."""
WITHOUT_LABELS = (
    "It needs no labels: nothing says whether a pathologist would prefer the setting that it prefers. "
    "By such a score a control can be the best and still say little of the tissue."
)
"""What a choice by scores without labels rests on."""


@dataclass
class _Suggestion:
    """Shape of a suggestion in selection.json."""

    number: int
    label: str
    changes: dict[str, Any]
    state: str
    values: list[float] | None
    patients: int


@dataclass
class _Fold:
    """Shape of a fold in selection.json."""

    name: str
    test_patients: list[str]
    tuning_samples: list[str]
    test_samples: list[str]
    suggestions: list[_Suggestion]
    chosen: str | None
    front: list[str]


@dataclass
class _Selection:
    """Shape of selection.json."""

    objectives: list[str]
    aggregate: str
    folds: list[_Fold]


def main_fold(selection: dict[str, Any]) -> dict[str, Any]:
    """The fold whose choice is the one to go on with: that of all patients, else the only one."""
    folds = selection["folds"]
    return next((fold for fold in folds if fold["name"] == keys.FOLD_ALL), folds[0])


def read_selection(folder: Path) -> dict[str, Any]:
    """Read the selection.json of a search study.

    Raises SencaError when it is missing or damaged, ProblemsError where a choice could not be tested
    honestly: samples that are tuned and tested on in one fold, or tested on in two.
    """
    from pydantic import TypeAdapter, ValidationError

    path = Path(folder) / keys.SELECTION_FILE
    fix = f"finish the search with `senca resume {folder}`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        shape = TypeAdapter(_Selection).validate_python(content)
    except FileNotFoundError:
        raise SencaError(f"{path}: no such file; expected the folder of a search; {fix}") from None
    except ValidationError as error:
        places = [(".".join(map(str, e["loc"])) or "-", e["msg"]) for e in error.errors()]
        raise ProblemsError(
            [Problem("-", place, f"{text}; {fix}") for place, text in places], str(path)
        ) from None
    except (OSError, ValueError) as error:
        raise SencaError(f"{path}: cannot be read ({error}); {fix}") from None
    problems = list(_problems(shape))
    if problems:
        raise ProblemsError(problems, str(path))
    return dict(content)


def _problems(selection: _Selection) -> Iterator[Problem]:
    if not selection.objectives or not set(selection.objectives) <= set(HIGHER_IS_BETTER):
        expected = ", ".join(HIGHER_IS_BETTER)
        yield Problem("-", "objectives", f"{selection.objectives} found; expected some of {expected}")
    if selection.aggregate not in AGGREGATES:
        message = f"{selection.aggregate!r} found; expected one of {', '.join(AGGREGATES)}"
        yield Problem("-", "aggregate", message)
    if not selection.folds:
        yield Problem("-", "folds", "none found; expected one or more")
    tested: dict[str, str] = {}
    for fold in selection.folds:
        yield from _fold_problems(fold, len(selection.objectives))
        for sample in fold.test_samples:
            if sample in tested:
                yield Problem(sample, fold.name, f"tested on in fold {tested[sample]} too; expected one fold")
            tested[sample] = fold.name


def _fold_problems(fold: _Fold, n_objectives: int) -> Iterator[Problem]:
    chosen = {*fold.front, *([fold.chosen] if fold.chosen is not None else [])}
    for label in sorted(chosen - {suggestion.label for suggestion in fold.suggestions}):
        yield Problem("-", fold.name, f"{label!r} was chosen; expected the label of a suggestion")
    for one in fold.suggestions:
        if one.state not in _STATES:
            message = f"state {one.state!r} of {one.label} found; expected one of {', '.join(_STATES)}"
            yield Problem("-", fold.name, message)
        if one.values is not None and len(one.values) != n_objectives:
            message = (
                f"{len(one.values)} values of {one.label} found; expected {n_objectives}, one an objective"
            )
            yield Problem("-", fold.name, message)
    for sample in sorted(set(fold.test_samples) & set(fold.tuning_samples)):
        yield Problem(sample, fold.name, "tuned and tested on; expected one or the other")


def with_selection(results: pd.DataFrame, selection: dict[str, Any], method: str = "senca") -> pd.DataFrame:
    """The rows that the summary of a search is made of: the default setting, the controls, the tuned setting.

    Rows labelled `tuned` are those of each fold's chosen setting on its test samples. Where there are any
    test samples, the rows of the default and of the controls are those of the test samples of all folds, so
    that every score is of the same sections; where there are none, they are of all samples and nothing is
    `tuned`. Other suggestions are left out.
    """
    tested = [sample for fold in selection["folds"] for sample in fold["test_samples"]]
    kept = (results[keys.METHOD] != method) | (results[keys.SETTING] == DEFAULT)
    if tested:
        kept &= results[keys.SAMPLE].isin(tested)
    tuned = [_test_rows(results, fold, method) for fold in selection["folds"]]
    return pd.concat([results[kept], *(t.assign(**{keys.SETTING: TUNED}) for t in tuned if len(t))])


def _test_rows(results: pd.DataFrame, fold: dict[str, Any], method: str) -> pd.DataFrame:
    """Rows of the fold's chosen setting on the samples left out of the choice."""
    chosen = (results[keys.METHOD] == method) & (results[keys.SETTING] == fold["chosen"])
    return results[chosen & results[keys.SAMPLE].isin(fold["test_samples"])]


def selection_claim(selection: dict[str, Any]) -> str:
    """What may be said of the tuned setting's scores, in one sentence."""
    folds = [fold for fold in selection["folds"] if fold["test_samples"]]
    if not folds:
        return "no test score: every section took part in the choice"
    without = [fold["name"] for fold in folds if fold["chosen"] is None]
    if len(without) == len(folds):
        return "no test score: nothing was chosen"
    patients = sum(len(fold["test_patients"]) for fold in folds if fold["chosen"] is not None)
    each = "who was" if patients == 1 else "each of them"
    claim = f"test scores are of {count(patients, 'patient')}, {each} left out of the choice that is tested"
    return f"{claim}; nothing was chosen {', '.join(without)}" if without else claim


def suggestion_table(selection: dict[str, Any], fold: str | None = None) -> pd.DataFrame:
    """Every suggestion of a fold, the best by tuning score first; raises SencaError for an unknown fold.

    Without a name, the fold of all patients or else the only one. Columns: number, label, changes (in words),
    state, `tuning_` and the objective for each of them (NaN where it has no score), patients (tuning patients
    scored), chosen (True on the Pareto front too). Raced suggestions, scored on fewer patients, come after
    the complete ones; with two objectives those on the front come first.
    """
    found = _fold(selection, fold)
    objectives = selection["objectives"]
    rows = [
        {name: one[name] for name in ("number", "label")}
        | {"changes": changes_text(one["changes"]), "state": one["state"]}
        | _tuning_scores(objectives, one)
        | {"patients": one["patients"], "chosen": one["label"] in (found["chosen"], *found["front"])}
        for one in found["suggestions"]
    ]
    columns = ["number", "label", "changes", "state", *_tuning_scores(objectives, None), "patients", "chosen"]
    table = pd.DataFrame(rows, columns=columns)
    upwards = direction(objectives[0], selection["aggregate"]) == MAXIMISE
    best = table[f"tuning_{objectives[0]}"] * (1 if upwards else -1)
    place = table["state"].map(_STATES.index)
    ordered = table.assign(
        _place=place, _front=table["label"].isin(found["front"]) if len(objectives) > 1 else False, _best=best
    ).sort_values(["_place", "_front", "_best", "number"], ascending=[True, False, False, True])
    return ordered[columns].reset_index(drop=True)


def _fold(selection: dict[str, Any], name: str | None) -> dict[str, Any]:
    folds = {fold["name"]: fold for fold in selection["folds"]}
    if name is None:
        name = FOLD_ALL if FOLD_ALL in folds else next(iter(folds), FOLD_ALL)
    if name not in folds:
        raise SencaError(f"fold {name!r} found; expected one of {', '.join(folds)}")
    return dict(folds[name])


def _tuning_scores(objectives: list[str], suggestion: dict[str, Any] | None) -> dict[str, float]:
    values = suggestion["values"] if suggestion else None
    return dict(zip((f"tuning_{o}" for o in objectives), values or [math.nan] * len(objectives), strict=True))


def changes_text(changes: dict[str, Any]) -> str:
    """What a setting changes, in words: 'neighbors=8, dropout=0.31'; 'nothing' for the default."""
    texts = (
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in changes.items()
    )
    return ", ".join(texts) or "nothing"


def needs_no_labels(selection: dict[str, Any]) -> bool:
    """Whether settings were chosen without any score that needs labels."""
    return NEED_LABELS.isdisjoint(selection["objectives"])


def choices(selection: dict[str, Any], results: pd.DataFrame, method: str = "senca") -> pd.DataFrame:
    """What every fold chose, and how that scored on the patients left out of the choice.

    One row a fold, or a fold and block of its test samples. Columns: fold, test_patients (in words), label,
    changes (in words), `tuning_` and the objective for each of them, patients (tuning patients scored),
    n_agree (folds with test samples that chose this label), block, `test_` and the objective for each of
    them and for ARI (averaged within sections, then patients; NaN in a fold without test samples). Of an
    objective that is one of COMPARED also `control_` and it, the best control's score on the tuning sections,
    in the same way, and `best_control_` and it, that control's name; NaN and '' where there is none.
    """
    objectives = selection["objectives"]
    metrics = list(dict.fromkeys([*objectives, keys.ARI]))
    agreeing = Counter(fold["chosen"] for fold in selection["folds"] if fold["test_samples"])
    rows = []
    for fold in selection["folds"]:
        chosen = next((one for one in fold["suggestions"] if one["label"] == fold["chosen"]), None)
        row = {
            "fold": fold["name"],
            "test_patients": ", ".join(fold["test_patients"]),
            "label": chosen["label"] if chosen else "",
            "changes": changes_text(chosen["changes"]) if chosen else "",
            **_tuning_scores(objectives, chosen),
            **_control_scores(results, fold, selection, method),
            "patients": chosen["patients"] if chosen else 0,
            "n_agree": agreeing[fold["chosen"]] if chosen else 0,
        }
        rows += [row | scores for scores in _test_scores(_test_rows(results, fold, method), metrics, method)]
    return pd.DataFrame(rows)


def _control_scores(
    results: pd.DataFrame, fold: dict[str, Any], selection: dict[str, Any], method: str
) -> dict[str, Any]:
    """The best control beside the chosen setting, by every objective that compares methods."""
    found: dict[str, Any] = {}
    for objective in selection["objectives"]:
        # A rank is among suggestions, of which a control is none.
        if objective not in COMPARED or selection["aggregate"] == RANK:
            continue
        scores = {}
        for control in sorted(set(results[keys.METHOD]) - {method}):
            sections = section_objectives(results[results[keys.SAMPLE].isin(fold["tuning_samples"])], control)
            values = sections[objective].dropna()
            if set(values.index.get_level_values(keys.SAMPLE)) == set(fold["tuning_samples"]):
                scores[control] = values.groupby(keys.PATIENT).mean().agg(selection["aggregate"])
        best = max if HIGHER_IS_BETTER[objective] else min
        name = best(scores, key=lambda control: scores[control], default="")
        found |= {f"control_{objective}": scores.get(name, math.nan), f"best_control_{objective}": name}
    return found


def _test_scores(rows: pd.DataFrame, metrics: list[str], method: str) -> list[dict[str, Any]]:
    """The scores of a fold's test rows, one dict a block; one without scores where there are none."""
    sections = section_objectives(rows, method)[metrics]
    if sections.empty:
        return [{"block": ""} | {f"test_{name}": math.nan for name in metrics}]
    blocks = sections.groupby([*BLOCK, keys.PATIENT]).mean().groupby(list(BLOCK)).mean()
    return [
        {"block": block_title(*(row[name] for name in BLOCK))}
        | {f"test_{name}": row[name] for name in metrics}
        for row in blocks.reset_index().to_dict("records")
    ]


_AGGREGATED = {
    "mean": "mean over patients",
    "median": "median over patients",
    RANK: "share of the other suggestions beaten",
}


def format_suggestions(table: pd.DataFrame, best: int = 10) -> Table:
    """The best suggestions for a terminal of 80 columns."""
    scores = [name for name in table.columns if name.startswith("tuning_")]
    states = Counter(table["state"])
    shown = plain_table(
        f"{count(len(table), 'suggestion')}: " + ", ".join(f"{states[state]} {state}" for state in _STATES),
        ["#", "changes"],
        ["state", *(_header(name) for name in scores), "patients"],
        ["tuning scores: of the patients that settings were chosen on; * chosen"],
    )
    for row in table.head(best).to_dict("records"):
        shown.add_row(
            f"{row['number']}{'*' if row['chosen'] else ''}",
            row["changes"],
            row["state"],
            *(number(row[name]) for name in scores),
            str(row["patients"]),
        )
    return shown


def format_choices(chosen: pd.DataFrame, selection: dict[str, Any]) -> Table:
    """What the folds chose for a terminal of 80 columns, with what may be said of the scores below it."""
    scores = [
        name
        for name in chosen.columns
        if name.startswith(("tuning_", "control_"))
        or (name.startswith("test_") and chosen[name].dtype == float and chosen[name].notna().any())
    ]
    tested = [fold for fold in selection["folds"] if fold["test_samples"]]
    if not tested:
        scores = [name for name in scores if not name.startswith("test_")]
    notes = [_basis(selection), *_best_controls(chosen, selection), selection_claim(selection)]
    agreeing = Counter(fold["chosen"] for fold in tested if fold["chosen"])
    if len(tested) > 1 and agreeing:
        label, times = agreeing.most_common(1)[0]
        notes.append(f"{times} of {len(tested)} folds chose {label}")
    shown = plain_table(
        "what was chosen", ["chosen", "setting", "changes"], list(map(_header, scores)), notes
    )
    for row in chosen.to_dict("records"):
        shown.add_row(
            "on " + row["fold"] if row["fold"] == FOLD_ALL else row["fold"],
            row["label"],
            row["changes"],
            *(number(row[name]) for name in scores),
        )
    return shown


def _basis(selection: dict[str, Any]) -> str:
    """What settings were chosen by, in a sentence."""
    said = " and ".join(
        f"{name} ({_AGGREGATED[selection['aggregate']]}, {better} is better)"
        for name in selection["objectives"]
        for better in ["higher" if direction(name, selection["aggregate"]) == MAXIMISE else "lower"]
    )
    return f"chosen by {said}. {WITHOUT_LABELS}" if needs_no_labels(selection) else f"chosen by {said}"


def _best_controls(chosen: pd.DataFrame, selection: dict[str, Any]) -> Iterator[str]:
    """Which controls the `control_` columns are of."""
    for objective in selection["objectives"]:
        names = chosen.get(f"best_control_{objective}")
        if names is not None and any(names):
            best = ", ".join(dict.fromkeys(filter(None, names)))
            yield f"control {objective}: of the best control ({best}) on the sections chosen on"


def _header(name: str) -> str:
    """'tuning_loss_last' as the two lines of a column's head."""
    kind, objective = name.split("_", 1)
    return f"{kind}\n{objective}"

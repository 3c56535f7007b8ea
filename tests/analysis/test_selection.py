from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from result_frames import consensus, frame, row, sweep
from rich.console import Console

from senca_ray import keys
from senca_ray.analysis.selection import (
    DEFAULT,
    TUNED,
    choices,
    format_choices,
    format_suggestions,
    read_selection,
    selection_claim,
    suggestion_table,
    with_selection,
)
from senca_ray.analysis.tables import sweep_summary
from senca_ray.errors import SencaError

PATIENTS = {"A": ["A1", "A2"], "B": ["B1"], "C": ["C1"]}
SAMPLES = [sample for samples in PATIENTS.values() for sample in samples]


def suggestion(number: int, label: str, value: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "number": number,
        "label": label,
        "changes": changes,
        "state": "complete" if value is not None else "failed",
        "values": None if value is None else [value],
        "patients": 0 if value is None else 2,
    }


def fold(name: str, test: list[str], chosen: str | None, scores: dict[str, float | None]) -> dict[str, Any]:
    """A fold that leaves the patients `test` out; tuning scores by label of the suggestions."""
    tested = [sample for patient in test for sample in PATIENTS[patient]]
    return {
        "name": name,
        "test_patients": test,
        "tuning_samples": [sample for sample in SAMPLES if sample not in tested],
        "test_samples": tested,
        "suggestions": [
            suggestion(i, label, value, **({} if label == DEFAULT else {"neighbors": 4 + i, "dropout": 0.25}))
            for i, (label, value) in enumerate(scores.items())
        ],
        "chosen": chosen,
        "front": [],
    }


def selection(*folds: dict[str, Any], objectives: tuple[str, ...] = (keys.ARI,)) -> dict[str, Any]:
    return {"objectives": list(objectives), "aggregate": "mean", "folds": list(folds)}


def leave_one_out() -> dict[str, Any]:
    """Without A and without C, s-1 is chosen; without B, s-2; on all, s-1."""
    return selection(
        fold("without A", ["A"], "s-1", {DEFAULT: 0.2, "s-1": 0.5, "s-2": 0.3}),
        fold("without B", ["B"], "s-2", {DEFAULT: 0.2, "s-1": 0.3, "s-2": 0.4}),
        fold("without C", ["C"], "s-1", {DEFAULT: 0.2, "s-1": 0.6, "s-2": 0.3}),
        fold("all", [], "s-1", {DEFAULT: 0.9, "s-1": 0.95, "s-2": 0.3}),
    )


def of_all() -> dict[str, Any]:
    return selection(fold("all", [], "s-1", {DEFAULT: 0.2, "s-1": 0.5, "s-2": None}))


def results() -> pd.DataFrame:
    """The default scores 0.1, s-1 0.6 and s-2 0.8 on every section, two seeds each; one control."""
    settings = {DEFAULT: 0.1, "s-1": 0.6, "s-2": 0.8}
    rows = [sweep(name, {s: [v, v + 0.02] for s in SAMPLES}) for name, v in settings.items()]
    rows += [consensus(name, dict.fromkeys(SAMPLES, v)) for name, v in settings.items()]
    fixed = {keys.METHOD: "smoothed-pca", keys.CLUSTERING: "kmeans"}
    return frame(*rows, sweep("fixed", {s: [0.3] for s in SAMPLES}, **fixed))


def write(folder: Path, content: Any) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / keys.SELECTION_FILE).write_text(text)
    return folder


@pytest.mark.parametrize("made", [leave_one_out, of_all])
def test_a_selection_is_read_as_it_was_written(tmp_path: Path, made: Any) -> None:
    assert read_selection(write(tmp_path, made())) == made()


def test_a_missing_selection_is_answered_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"selection\.json: no such file.*folder of a search.*senca resume"):
        read_selection(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", r"selection\.json: cannot be read .*senca resume"),
        ([], r"selection\.json"),
        ({"objectives": ["ari"]}, r"aggregate: Field required"),
        (selection(fold("all", [], "s-1", {"s-1": 0.1}), objectives=("arii",)), "objectives: .'arii'. found"),
        (
            leave_one_out() | {"aggregate": "sum"},
            "aggregate: 'sum' found; expected one of mean, median, rank",
        ),
        (selection(), "folds: none found"),
        (selection(fold("all", [], "s-9", {"s-1": 0.1})), "all: 's-9' was chosen; expected the label"),
        (
            selection(fold("all", [], "s-1", {"s-1": 0.1}) | {"test_samples": ["A1"]}),
            "A1  all: tuned and tested",
        ),
        (
            selection(*(fold(f"without A {i}", ["A"], "s-1", {"s-1": 0.1}) for i in range(2))),
            "A1  without A 1: tested on in fold without A 0 too",
        ),
        (
            selection(fold("all", [], "s-1", {"s-1": 0.1}), objectives=("ari", "seconds")),
            "all: 1 values of s-1 found; expected 2",
        ),
    ],
)
def test_a_damaged_selection_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(SencaError, match=message):
        read_selection(write(tmp_path, content))


def test_an_unknown_state_is_refused(tmp_path: Path) -> None:
    content = of_all()
    content["folds"][0]["suggestions"][0]["state"] = "pruned"
    with pytest.raises(SencaError, match="state 'pruned' of default found; expected one of complete, raced"):
        read_selection(write(tmp_path, content))


def test_each_patient_is_scored_by_what_was_chosen_without_it() -> None:
    rows = with_selection(results(), leave_one_out())
    single = rows[(rows[keys.SETTING] == TUNED) & (rows[keys.SEED] == 0)].set_index(keys.SAMPLE)
    assert single[keys.ARI].to_dict() == pytest.approx({"A1": 0.6, "A2": 0.6, "B1": 0.8, "C1": 0.6})
    tuned = rows[rows[keys.SETTING] == TUNED]
    assert not tuned.duplicated(list(keys.ROW_KEY)).any()
    assert (tuned[keys.CLUSTERING] == keys.CONSENSUS).sum() == 4
    assert set(rows[keys.SETTING]) == {DEFAULT, TUNED, "fixed"}
    summary = sweep_summary(rows, DEFAULT)
    found = summary[(summary[keys.SETTING] == TUNED) & (summary[keys.CLUSTERING] == "ward")].iloc[0]
    assert found["mean_ari"] == pytest.approx(0.01 + np.mean([0.6, 0.8, 0.6]))
    assert found["mean_difference"] == pytest.approx(np.mean([0.5, 0.7, 0.5]))
    assert (found["n_paired"], found["wins"]) == (3, 3)


def test_every_row_of_the_summary_is_on_the_same_sections() -> None:
    split = selection(fold("split", ["B", "C"], "s-2", {DEFAULT: 0.1, "s-2": 0.3}))
    rows = with_selection(results(), split)
    assert set(rows[keys.SAMPLE]) == {"B1", "C1"}
    assert set(sweep_summary(rows, DEFAULT)["n_sections"]) == {2}
    # The tuning sections of the chosen setting are never among them.
    assert set(rows.loc[rows[keys.SETTING] == TUNED, keys.SAMPLE]) == {"B1", "C1"}


def test_without_test_samples_nothing_is_called_tuned() -> None:
    rows = with_selection(results(), of_all())
    assert set(rows[keys.SETTING]) == {DEFAULT, "fixed"}
    assert set(rows[keys.SAMPLE]) == set(SAMPLES)
    found = choices(of_all(), results())
    assert found["test_ari"].isna().all()
    assert found.loc[0, "tuning_ari"] == 0.5
    text = " ".join(printed(format_choices(found, of_all())))
    assert "no test score: every section took part in the choice" in " ".join(text.split())
    assert "test_" not in text


def test_a_default_that_is_chosen_is_tested_as_such() -> None:
    chosen = selection(fold("split", ["B"], DEFAULT, {DEFAULT: 0.5}))
    summary = sweep_summary(with_selection(results(), chosen), DEFAULT)
    found = summary[(summary[keys.SETTING] == TUNED) & (summary[keys.CLUSTERING] == "ward")].iloc[0]
    assert found["mean_difference"] == 0


@pytest.mark.parametrize(
    ("made", "claim"),
    [
        (of_all(), "no test score: every section took part in the choice"),
        (
            leave_one_out(),
            "test scores are of 3 patients, each of them left out of the choice that is tested",
        ),
        (
            selection(fold("split", ["B"], "s-1", {"s-1": 1})),
            "test scores are of 1 patient, who was left out",
        ),
        (selection(fold("split", ["B"], None, {"s-1": None})), "no test score: nothing was chosen"),
        (
            selection(fold("without A", ["A"], None, {}), fold("without B", ["B"], "s-1", {"s-1": 1})),
            "of 1 patient, who was left out of the choice that is tested; nothing was chosen without A",
        ),
    ],
)
def test_the_claim_says_whom_a_choice_was_tested_on(made: dict[str, Any], claim: str) -> None:
    assert claim in selection_claim(made)


def test_suggestions_come_best_first() -> None:
    made = of_all()
    (only,) = made["folds"]
    only["suggestions"] += [
        suggestion(3, "s-3", 0.99, epochs=20) | {"state": "raced", "patients": 1},
        suggestion(4, "s-4", 0.5),
    ]
    table = suggestion_table(made)
    assert table["label"].tolist() == ["s-1", "s-4", DEFAULT, "s-3", "s-2"]
    assert list(table.columns) == ["number", "label", "changes", "state", "tuning_ari", "patients", "chosen"]
    assert table["chosen"].tolist() == [True, False, False, False, False]
    assert table["changes"].tolist()[:1] == ["neighbors=5, dropout=0.25"]
    assert table.set_index("label")["changes"][DEFAULT] == "nothing"
    assert math.isnan(table["tuning_ari"].iloc[-1])


def test_a_score_that_should_be_small_is_best_when_small_but_ranks_are_not() -> None:
    scores = {"s-1": 3.0, "s-2": 1.0, "s-3": 2.0}
    small = selection(fold("all", [], "s-2", scores), objectives=(keys.CHAOS,))
    assert suggestion_table(small)["label"].tolist() == ["s-2", "s-3", "s-1"]
    ranks = small | {"aggregate": "rank"}
    assert suggestion_table(ranks)["label"].tolist() == ["s-1", "s-3", "s-2"]


def test_the_front_of_two_objectives_comes_first() -> None:
    made = selection(
        fold("all", [], None, {"s-0": 0, "s-1": 0, "s-2": 0}), objectives=(keys.ARI, keys.SECONDS)
    )
    (only,) = made["folds"]
    for one, values in zip(only["suggestions"], ([0.5, 9.0], [0.4, 3.0], [0.6, 9.0]), strict=True):
        one["values"] = values
    only["front"] = ["s-1", "s-2"]
    table = suggestion_table(made)
    assert table["label"].tolist() == ["s-2", "s-1", "s-0"]
    assert table["chosen"].tolist() == [True, True, False]
    assert table["tuning_seconds"].tolist() == [9, 3, 9]


def test_a_fold_is_named_or_the_one_to_go_on_with() -> None:
    assert suggestion_table(leave_one_out(), "without B")["tuning_ari"].tolist() == [0.4, 0.3, 0.2]
    assert suggestion_table(leave_one_out())["tuning_ari"].tolist() == [0.95, 0.9, 0.3]
    split = selection(fold("split", ["B"], "s-1", {"s-1": 0.7}))
    assert suggestion_table(split)["tuning_ari"].tolist() == [0.7]
    with pytest.raises(SencaError, match="fold 'without D' found; expected one of without A, without B"):
        suggestion_table(leave_one_out(), "without D")


def test_choices_tell_what_each_fold_chose_and_how_it_was_tested() -> None:
    found = choices(leave_one_out(), results()).set_index("fold")
    assert found["label"].to_dict() == {
        "without A": "s-1",
        "without B": "s-2",
        "without C": "s-1",
        "all": "s-1",
    }
    assert found["n_agree"].tolist() == [2, 1, 2, 2]
    assert found["tuning_ari"].tolist() == [0.5, 0.4, 0.6, 0.95]
    # Mean of the two seeds, v and v + 0.02; nothing is left out of the fold of all.
    assert found["test_ari"].tolist() == pytest.approx([0.61, 0.81, 0.61, math.nan], nan_ok=True)
    assert found.loc["without B", "changes"] == "neighbors=6, dropout=0.25"
    assert found["test_patients"].tolist() == ["A", "B", "C", ""]


def test_a_label_free_objective_is_tested_by_itself_and_by_ari() -> None:
    made = selection(fold("split", ["B"], "s-1", {"s-1": 0.5}), objectives=(keys.STABILITY,))
    found = choices(made, results()).iloc[0]
    assert (found["tuning_stability"], found["test_stability"]) == (0.5, 0.5)
    assert found["test_ari"] == pytest.approx(0.61)


def test_test_scores_of_blocks_are_not_averaged() -> None:
    image = [row("C1", "s-1", 0, 0.9, **{keys.MODALITY: keys.RNA_IMAGE})]
    scores = frame([row("B1", "s-1", 0, 0.3), row("B1", DEFAULT, 0, 0.3)], image)
    found = choices(selection(fold("split", ["B", "C"], "s-1", {"s-1": 0.5})), scores)
    assert found.set_index("block")["test_ari"].to_dict() == pytest.approx(
        {"annotated, without image": 0.3, "annotated, with image": 0.9}
    )


def printed(table: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def test_the_printed_tables_fit_80_columns() -> None:
    made = leave_one_out()
    made["folds"][-1]["suggestions"] += [suggestion(i, f"s-{i}", 0.01 * i, epochs=i) for i in range(3, 20)]
    shown = printed(format_suggestions(suggestion_table(made)))
    assert max(map(len, shown)) <= 80
    flowing = " ".join(" ".join(shown).split())
    assert "20 suggestions: 20 complete, 0 raced, 0 failed" in flowing
    assert "tuning scores: of the patients that settings were chosen on" in flowing
    assert "1* neighbors=5, dropout=0.25 complete 0.950 2" in flowing
    assert sum(" complete " in line for line in shown) == 10
    shown = printed(format_choices(choices(made, results()), made))
    assert max(map(len, shown)) <= 80
    flowing = " ".join(" ".join(shown).split())
    assert "without B s-2 neighbors=6, dropout=0.25 0.400 0.810" in flowing
    assert "test scores are of 3 patients, each of them left out of the choice" in flowing
    assert "2 of 3 folds chose s-1" in flowing


def label_free(objective: str, values: dict[str, dict[str, float]], aggregate: str = "mean") -> Any:
    """A search without labels by one objective, on all patients; a score by method and section."""
    combined = {keys.CLUSTERING: keys.CONSENSUS, keys.SEED: keys.ALL_SEEDS}
    rows = [
        row(s, DEFAULT if method == "senca" else keys.FIXED, 0, math.nan)
        | {keys.LABEL_SOURCE: keys.UNLABELLED, keys.METHOD: method}
        | known
        for method, scores in values.items()
        for s, value in scores.items()
        for known in ({}, combined)
        for known in [known | ({objective: value} if (objective == keys.STABILITY) == bool(known) else {})]
    ]
    made = selection(fold("all", [], DEFAULT, {DEFAULT: 0.5}), objectives=(objective,))
    return made | {"aggregate": aggregate}, frame(rows)


STABLE = {
    "senca": {"A1": 0.5, "A2": 0.5, "B1": 0.5, "C1": 0.5},
    "coordinates": {"A1": 1.0, "A2": 0.6, "B1": 0.9, "C1": 0.1},
    "untrained": {"A1": 0.2, "A2": 0.2, "B1": 0.3, "C1": 0.3},
    "holes": {"A1": 1.0},
}


@pytest.mark.parametrize(("aggregate", "expected"), [("mean", (0.8 + 0.9 + 0.1) / 3), ("median", 0.8)])
def test_the_best_control_stands_beside_a_choice_without_labels(aggregate: str, expected: float) -> None:
    made, rows = label_free(keys.STABILITY, STABLE, aggregate)
    found = choices(made, rows).iloc[0]
    # Scored on one section only, 'holes' is none.
    assert found["best_control_stability"] == "coordinates"
    assert found["control_stability"] == pytest.approx(expected)
    lines = printed(format_choices(choices(made, rows), made))
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert f"chosen by stability ({aggregate} over patients, higher is better). It needs no labels" in text
    assert "nothing says whether a pathologist would prefer the setting" in text
    assert "control stability: of the best control (coordinates)" in text
    assert f"0.500 {expected:.3f}" in text and "ari" not in text


def test_a_control_is_better_where_less_is_better() -> None:
    made, rows = label_free(keys.PAS, STABLE)
    found = choices(made, rows).iloc[0]
    assert (found["best_control_pas"], found["control_pas"]) == ("untrained", pytest.approx((0.2 + 0.6) / 3))


@pytest.mark.parametrize(
    ("objective", "aggregate"),
    [(keys.SILHOUETTE, "mean"), (keys.STABILITY, "rank"), (keys.LOSS_LAST, "mean")],
)
def test_controls_stand_beside_scores_only_that_compare_with_theirs(objective: str, aggregate: str) -> None:
    made, rows = label_free(objective, STABLE, aggregate)
    found = choices(made, rows)
    assert not [name for name in found if "control" in name]
    text = " ".join(" ".join(printed(format_choices(found, made))).split())
    assert "control" not in text.replace("a control can", "")


def test_without_a_control_that_has_the_score_none_is_named() -> None:
    made, rows = label_free(keys.STABILITY, {"senca": STABLE["senca"]})
    found = choices(made, rows)
    assert found.loc[0, "best_control_stability"] == "" and math.isnan(found.loc[0, "control_stability"])
    assert "best control" not in " ".join(printed(format_choices(found, made)))


def test_a_choice_by_labels_does_not_claim_to_need_none() -> None:
    text = " ".join(" ".join(printed(format_choices(choices(of_all(), results()), of_all()))).split())
    assert "chosen by ari (mean over patients, higher is better)" in text and "needs no labels" not in text

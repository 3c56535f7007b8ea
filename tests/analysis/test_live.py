from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report.study_folder import make_benchmark, make_search, make_study
from rich.console import Console
from tiny_study import append, failed, trial_rows, write_study

from senca_ray import keys
from senca_ray.analysis import live as module
from senca_ray.analysis.live import LiveStudy, about, format_look
from senca_ray.errors import SencaError
from senca_ray.lock import held

BLOCK = {keys.PATIENT: "A", keys.LABEL_SOURCE: keys.ANNOTATED, keys.MODALITY: keys.RNA}
LINE = ["method", "setting", "clustering"]


def scored(sample: str, setting: str, ari: float | None, **changes: Any) -> list[dict[str, Any]]:
    return trial_rows(sample, setting, **(BLOCK | {keys.ARI: ari} | changes))


def shown(study: Path, height: int | None = None) -> str:
    console = Console(file=io.StringIO(), width=80)
    console.print(format_look(LiveStudy(study).look(), height))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    return text


def cells(text: str) -> dict[str, list[str]]:
    """Words of each line of a table after its name."""
    lines = (line.rsplit(maxsplit=5) for line in text.splitlines() if " of " in line)
    return {words[0]: words[1:] for words in lines if len(words) == 6}


@pytest.mark.parametrize("make", [make_study, make_benchmark])
def test_a_finished_study_stands_as_its_summary_says(tmp_path: Path, make: Any) -> None:
    """So what is shown on the way is averaged like what is published."""
    study = make(tmp_path, side=8)
    found = LiveStudy(study).look().standings
    summary = pd.read_csv(study / keys.SUMMARY_FILE, keep_default_na=False, na_values=[""])
    summary = summary[summary["clustering"] != keys.CONSENSUS].dropna(subset=["mean_ari"])
    columns = ["block", *LINE, "mean", "sections", "patients", "is_default"]
    expected = summary.rename(columns={"mean_ari": "mean", "n_sections": "sections"})
    expected = expected.rename(columns={"n_patients": "patients"})[columns]
    order = ["block", *LINE]
    pd.testing.assert_frame_equal(
        found[columns].sort_values(order, ignore_index=True),
        expected.sort_values(order, ignore_index=True),
        check_dtype=False,
    )
    best = found.loc[found.groupby("block")["mean"].idxmax()]
    assert best["is_best"].all() and found["is_best"].sum() == len(best)


def test_a_look_sees_only_what_is_new_and_nothing_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_study(tmp_path / "s", scored("A1", "neighbors=8", 0.5))
    read: list[int] = []
    line = module.JournalTail.read.__globals__["read_line"]
    monkeypatch.setitem(
        module.JournalTail.read.__globals__, "read_line", lambda *a: read.append(a[2]) or line(*a)
    )
    watched = LiveStudy(study)
    for _ in range(3):
        assert watched.look().standings["mean"].tolist() == [0.5]
    append(study, scored("A1", "neighbors=4", 0.25))
    assert watched.look().standings["mean"].tolist() == [0.25, 0.5], "in the study's order"
    assert read == [*range(1, 9)], "every line once"


def test_best_default_and_sections_so_far(tmp_path: Path) -> None:
    rows = [
        *scored("A1", "neighbors=4", 0.2),
        *scored("A1", "neighbors=8", 0.4),
        *scored("B1", "neighbors=8", 0.5, **{keys.PATIENT: "B"}),
        *scored("B1", "neighbors=4", None, **failed("loss is not finite")),
    ]
    study = write_study(tmp_path / "s", rows, trials=9, shards=dict.fromkeys(("A1", "B1", "C1"), "/x"))
    text = shown(study)
    assert cells(text) == {
        "senca neighbors=4 (default)": ["0.200", "1", "1", "of", "3"],
        "senca neighbors=8 *": ["0.450", "2", "2", "of", "3"],
    }
    for expected in (
        "annotated, without image; k policy labels (oracle",
        "best so far: rests on the trials finished so far",
        "cannot be compared yet",
        "stopped, 4 of 9 trials",
        "4 rows failed",
        "4: loss is not finite (B1)",
        "Simulated cohort",
    ):
        assert expected in text


def test_blocks_are_never_one_mean(tmp_path: Path) -> None:
    unlabelled = {keys.LABEL_SOURCE: keys.UNLABELLED, keys.SILHOUETTE: 0.125}
    rows = [*scored("A1", "neighbors=4", 0.25), *scored("B1", "neighbors=4", None, **unlabelled)]
    study = write_study(tmp_path / "s", rows, shards={"A1": "/x", "B1": "/x"})
    found = LiveStudy(study).look().standings
    assert found[["block", "score", "mean", "of"]].to_numpy().tolist() == [
        ["annotated, without image", "ari", 0.25, 1],
        ["without labels, without image", "silhouette", 0.125, 1],
    ]
    assert "mean silhouette (no labels)" in shown(study)


def test_nothing_yet(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    assert "no trial has ended yet" in shown(study)
    with held(study):
        text = shown(study)
        assert "running, 0 of 4 trials, time left is told after a few trials" in text and "run by" in text
    (study / keys.STUDY_FILE).unlink()
    with pytest.raises(SencaError, match="not a study"):
        LiveStudy(study)


def test_what_is_left_and_what_is_done(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", trials=7)
    with held(study):
        append(study, [row for s in "ABC" for row in scored(f"{s}1", "neighbors=4", 0.5)])
        text = shown(study)
        assert "3 of 7 trials, about" in text and "left" in text and "last result 1 s ago" in text
        append(study, [row for s in "ABCD" for row in scored(f"{s}1", "neighbors=8", 0.5)])
        assert "7 of 7 trials, tables and page are being made" in shown(study)


def test_a_small_terminal_shows_the_default_and_the_best(tmp_path: Path) -> None:
    settings = {f"neighbors={n}": {"neighbors": n} for n in range(4, 44)}
    rows = [row for n in range(4, 44) for row in scored("A1", f"neighbors={n}", n / 100)]
    study = write_study(tmp_path / "s", rows, variants=settings, trials=40)
    text = shown(study, height=20)
    assert len(text.splitlines()) <= 20
    assert "neighbors=4 (default)" in text and "neighbors=43 *" in text and "of lower means" in text
    assert "neighbors=20" not in text and "neighbors=20" in shown(study)


def test_a_long_list_of_failures_is_cut(tmp_path: Path) -> None:
    rows = [
        row
        for n in range(5)
        for row in trial_rows("A1", f"neighbors={n}", **failed(f"[red]reason {n} " + "x" * 200))
    ]
    text = shown(write_study(tmp_path / "s", rows))
    assert "20 rows failed" in text and "[red]reason 0" in text and "reason 3" not in text
    assert "2 reasons more" in text
    assert len(text.splitlines()) < 12


def test_a_search_shows_the_best_of_each_fold(tmp_path: Path) -> None:
    study = make_search(tmp_path, side=6, suggestions=6)
    selection = json.loads((study / keys.SELECTION_FILE).read_text())
    finished = shown(study)
    for fold in selection["folds"]:
        assert fold["chosen"] in finished
        fold |= {"chosen": None, "suggestions": [] if fold["name"] == "all" else fold["suggestions"][:1]}
    assert "chosen" in finished and "best so far" not in finished
    (study / keys.RESULTS_FILE).unlink()
    (study / keys.SELECTION_FILE).write_text(json.dumps(selection))
    text = shown(study)
    assert "best so far" in text and "none yet" in text and "without A" in text and "default" in text
    assert "never test scores" in text
    (study / keys.SELECTION_FILE).unlink()
    assert "no suggestion has been told of yet" in shown(study)


@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_durations_have_one_unit_and_keep_their_order(a: float, b: float) -> None:
    units = {"s": 1, "min": 60, "h": 3600, "days": 86400}

    def seconds(words: str) -> float:
        _about, number, unit = words.split()
        return int(number) * units[unit]

    low, high = sorted((a, b))
    assert seconds(about(low)) <= seconds(about(high))
    assert abs(seconds(about(a)) - a) <= max(1, 0.34 * a)

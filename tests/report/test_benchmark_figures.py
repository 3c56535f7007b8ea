from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_no_text_overlaps
from study_folder import Section, make_benchmark

from senca_ray import keys
from senca_ray.report.benchmark_figures import (
    KIND_COLOURS,
    benchmark_figures,
    difference_figure,
    score_figure,
)
from senca_ray.report.figures import render
from senca_ray.report.view import StudyView, load_study

WITH_IMAGE = "annotated, with image"


@pytest.fixture(scope="module")
def view(benchmark: Path) -> StudyView:
    return load_study(benchmark)


def of_block(view: StudyView, block: str = WITH_IMAGE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows with a score of the summary and of the section table."""
    frames = (
        f[(f["block"] == block) & (f["clustering"] != keys.CONSENSUS)] for f in (view.summary, view.sections)
    )
    rows, sections = (f.dropna(subset=["mean_ari"]) for f in frames)
    return rows, sections


def test_every_block_has_both_figures(view: StudyView) -> None:
    shown = list(benchmark_figures(view))
    assert len(shown) == 3 * 2 and [f.name for f in shown[:2]] == ["scores", "differences"]
    limits = {f.figure.axes[0].get_xlim() for f in shown if f.name == "scores"}
    assert len(limits) == 1, "one axis for all blocks"


def test_rows_are_the_summary_s_and_every_section_is_a_dot(view: StudyView) -> None:
    rows, sections = of_block(view)
    figure = score_figure(rows, sections, (0.0, 1.0))
    axes, beside = figure.axes
    names = [f"{r.method} ({r.clustering})" for r in rows.itertuples()]
    expected = [n + (", 1 of 2" if n.startswith("bayesspace") else "") for n in names]
    assert [t.get_text() for t in axes.get_yticklabels()] == expected
    assert [t.get_text() for t in beside.get_yticklabels()] == rows["kind"].tolist()
    low, high = axes.get_ylim()
    assert low > high, "the best is on top"
    drawn = [line.get_xydata() for line in axes.lines if line.get_marker() == "o"]
    assert len(drawn) == len(rows)
    for place, row in enumerate(rows.to_dict("records")):
        own = sections[(sections["method"] == row["method"]) & (sections["clustering"] == row["clustering"])]
        assert sorted(drawn[place][:, 0]) == pytest.approx(sorted(own["mean_ari"]))
        assert (np.abs(drawn[place][:, 1] - place) < 0.5).all()
    strokes = [line for line in axes.lines if line.get_marker() == "|"]
    assert [float(s.get_xdata()[0]) for s in strokes] == pytest.approx(rows["mean_ari"].tolist())
    assert [s.get_color() for s in strokes] == [KIND_COLOURS[kind] for kind in rows["kind"]]


def test_the_reference_is_a_line_and_bold(view: StudyView) -> None:
    rows, sections = of_block(view)
    axes = score_figure(rows, sections, (0.0, 1.0)).axes[0]
    mean = rows.loc[rows["is_default"], "mean_ari"].iloc[0]
    dashed = [line for line in axes.lines if line.is_dashed()]
    assert [line.get_xdata()[0] for line in dashed] == [mean]
    bold = [t.get_text() for t in axes.get_yticklabels() if t.get_fontweight() == "bold"]
    assert bold == ["senca (ward)"]
    assert "reference: senca (ward)" in [t.get_text() for t in axes.texts]


def test_differences_are_the_summary_s_with_their_wins(view: StudyView) -> None:
    rows, sections = of_block(view)
    reference, compared = rows[rows["is_default"]], rows[~rows["is_default"]]
    figure = difference_figure(compared, reference, sections, keys.PATIENT)
    diamonds = [float(x.get_xdata()[0]) for x in figure.axes[0].lines if x.get_marker() == "D"]
    assert diamonds == pytest.approx(compared["mean_difference"].tolist())
    wins = [t.get_text() for t in figure.axes[1].get_yticklabels()]
    assert wins == [f"{r.wins} of {r.n_paired}" for r in compared.itertuples()]
    dots = [x.get_xdata() for x in figure.axes[0].lines if x.get_marker() == "o"]
    assert [float(np.mean(d)) for d in dots] == pytest.approx(compared["mean_difference"].tolist())
    assert [len(d) for d in dots] == compared["n_paired"].tolist()


def many(view: StudyView, n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A block of `n` methods with long names over 12 sections that all score the same."""
    rows, sections = of_block(view)
    names = [f"a-method-of-{i}-with-a-long-name_$x_1$" for i in range(n)]
    other = rows[~rows["is_default"]].iloc[:1]
    grown = pd.concat([rows[rows["is_default"]], *(other.assign(method=name) for name in names)])
    one = sections[sections["method"] == "senca"].iloc[:1]
    every = [
        one.assign(method=name, clustering=clustering, sample=f"S{i}", patient=f"P{i}", mean_ari=0.3)
        for name, clustering in grown[["method", "clustering"]].itertuples(index=False)
        for i in range(12)
    ]
    return grown.assign(mean_ari=0.3, interval_low=-0.1, interval_high=0.1, n_sections=12), pd.concat(every)


def test_thirty_five_rows_of_long_names_stay_legible(view: StudyView) -> None:
    rows, sections = many(view, 34)
    check_no_text_overlaps(score_figure(rows, sections, (0.0, 1.0)), 2 * 35 + 1)
    reference, compared = rows[rows["is_default"]], rows[~rows["is_default"]]
    figure = difference_figure(compared, reference, sections, keys.PATIENT)
    # Of ticks outside the axis the labels are there, but are not drawn.
    low, high = figure.axes[0].get_xlim()
    figure.axes[0].set_xticks([tick for tick in figure.axes[0].get_xticks() if low <= tick <= high])
    check_no_text_overlaps(figure, 2 * 34 + 1)


def test_the_same_study_gives_the_same_bytes(view: StudyView) -> None:
    first, second = (render(next(iter(benchmark_figures(view))).figure, "svg") for _ in range(2))
    assert first == second


def test_no_labels_no_figure(tmp_path: Path) -> None:
    folder = make_benchmark(tmp_path, (Section("U1", "U", label_source=keys.UNLABELLED),), seeds=1)
    assert list(benchmark_figures(load_study(folder))) == []

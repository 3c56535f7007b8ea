from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from study_folder import make_search

from senca_ray import keys
from senca_ray.report.figures import render
from senca_ray.report.search import suggestions
from senca_ray.report.search_figures import best_so_far, history_figure, search_figures
from senca_ray.report.view import StudyView, load_study

SCORES = st.lists(st.none() | st.floats(-1, 1), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def view(search: Path) -> StudyView:
    return load_study(search)


def marks(axes: Axes, marker: str) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in axes.lines if line.get_marker() == marker]


@given(scores=SCORES, lower=st.booleans())
def test_the_best_so_far_is_the_best_of_what_was_seen(scores: list[float | None], lower: bool) -> None:
    found = best_so_far(pd.Series(scores, dtype=float), lower)
    for i, value in enumerate(found):
        seen = [s for s in scores[: i + 1] if s is not None]
        assert np.isnan(value) if not seen else value == (min(seen) if lower else max(seen))


def test_what_became_of_a_suggestion_is_told_by_its_shape(view: StudyView) -> None:
    tried = suggestions(view, [view.main_fold])
    axes = history_figure(view).axes[0]
    for state, marker in (("complete", "o"), ("raced", "x")):
        expected = tried.loc[tried["state"] == state, ["number", keys.ARI]].to_numpy(float)
        assert any(np.array_equal(points, expected) for points in marks(axes, marker)), state
    assert [points[:, 0].tolist() for points in marks(axes, "|")] == [[8.0]]


def test_the_line_of_the_best_passes_over_raced_suggestions(search: Path) -> None:
    view = load_study(search)
    view.main_fold["suggestions"][4]["values"] = [0.99]
    axes = history_figure(view).axes[0]
    thick = next(line for line in axes.lines if line.get_linestyle() != "None" and line.get_linewidth() == 2)
    assert np.nanmax(np.asarray(thick.get_ydata(), float)) < 0.99
    thin = [line for line in axes.lines if line.get_linestyle() != "None" and line.get_linewidth() < 1]
    assert len(thin) == len(view.folds) - 1


def test_a_panel_for_every_searched_field(view: StudyView) -> None:
    shown = {f.name: f for f in search_figures(view)}
    assert list(shown) == ["history", "parameters-ari"]
    panels = {a.get_xlabel(): a for a in shown["parameters-ari"].figure.axes if a.get_visible()}
    assert list(panels) == list(view.description["space"])
    assert [panels[name].get_xscale() for name in panels] == ["log", "linear", "linear"]
    assert [t.get_text() for t in panels["hvgs"].get_xticklabels()] == ["250", "500", "1000"]
    tried = suggestions(view, [view.main_fold]).query("state == 'complete'")
    choices = np.round(marks(panels["hvgs"], "o")[0][:, 0]).astype(int)
    assert [(250, 500, 1000)[i] for i in choices] == tried["hvgs"].tolist()
    assert marks(panels["mse_weight"], "o")[0][:, 0].tolist() == tried["mse_weight"].tolist()


def test_two_objectives_have_a_front_whose_points_are_joined(tmp_path: Path) -> None:
    objectives = (keys.ARI, keys.SECONDS)
    view = load_study(make_search(tmp_path, select="none", objectives=objectives, suggestions=8))
    shown = {f.name: f.figure for f in search_figures(view)}
    assert list(shown) == ["history", "parameters-ari", "parameters-seconds", "front"]
    assert len(shown["history"].axes) == 2
    [front] = marks(shown["front"].axes[0], "D")
    tried = suggestions(view, [view.main_fold]).set_index("label")
    expected = tried.loc[view.main_fold["front"], list(objectives)].sort_values(keys.ARI)
    np.testing.assert_array_equal(front, expected.to_numpy(float))
    assert (np.diff(front[:, 1]) >= 0).all(), "a better ARI costs more seconds"


def test_the_same_search_gives_the_same_bytes(search: Path) -> None:
    first, second = ([render(f.figure, "svg") for f in search_figures(load_study(search))] for _ in range(2))
    assert first == second

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from study_folder import Section, make_study

from senca_ray import keys
from senca_ray.report.figures import render, spread, sweep_figure, sweep_figures
from senca_ray.report.view import load_study

HEIGHTS = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12).map(np.array)


@given(heights=HEIGHTS)
def test_spread_keeps_order_distance_and_range(heights: np.ndarray) -> None:
    gap = 0.05
    places = spread(heights, gap, 0.0, 1.0)
    order = np.argsort(heights, kind="stable")
    assert (np.diff(places[order]) >= gap - 1e-9).all()
    assert places.min() >= -1e-9 and places.max() <= 1 + 1e-9


@given(heights=HEIGHTS)
def test_spread_moves_nothing_that_is_apart(heights: np.ndarray) -> None:
    apart = np.unique(np.round(heights, 1))
    np.testing.assert_allclose(spread(apart, 0.05, 0.0, 1.0), apart, atol=1e-12)


def test_blocks_have_a_figure_each(finished: Path) -> None:
    titles = [title for title, _ in sweep_figures(load_study(finished))]
    assert titles == ["annotated, without image", "annotated, with image", "transferred labels, with image"]


def test_lines_are_the_tables_numbers(finished: Path) -> None:
    view = load_study(finished)
    figure = dict(sweep_figures(view))["annotated, with image"]
    drawn = [np.asarray(line.get_ydata(), float) for line in figure.axes[0].lines]
    block = view.sections[view.sections["block"] == "annotated, with image"]
    model = block[block[keys.METHOD] == "senca"].set_index([keys.SAMPLE, keys.SETTING])["mean_ari"]
    for sample in ("A1", "C1"):
        values = [model[sample, f"neighbors={n}"] for n in (4, 8, 16)]
        assert any(y.shape == (3,) and np.array_equal(y, values, equal_nan=True) for y in drawn), sample
    means = view.summary[
        (view.summary["block"] == "annotated, with image") & (view.summary[keys.METHOD] == "senca")
    ]["mean_ari"]
    assert any(y.shape == (3,) and np.allclose(y, means) for y in drawn)


def test_text_never_overlaps_even_where_all_sections_score_the_same(finished: Path) -> None:
    view = load_study(finished)
    names = [f"section-with-a-long-name-{i}" for i in range(36)]
    template = view.sections[(view.sections[keys.SAMPLE] == "A1") & (view.sections[keys.METHOD] == "senca")]
    sections = pd.concat([template.assign(**{keys.SAMPLE: name, "mean_ari": 0.31}) for name in names])
    summary = view.summary[view.summary["block"] == "annotated, with image"].assign(mean_ari=0.31)
    figure = sweep_figure(summary, sections, view.description, (0.0, 1.0))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    assert len(texts) > 36 + 4
    width, height = canvas.get_width_height()
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text.get_text()
    for (one, a), (other, b) in combinations(zip(texts, boxes, strict=True), 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(overlap) < 2, (one.get_text(), other.get_text())


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_study_gives_the_same_bytes(finished: Path, kind: str) -> None:
    first, second = ([render(f, kind) for _, f in sweep_figures(load_study(finished))] for _ in range(2))
    assert first == second


def test_no_labels_no_figure(tmp_path: Path) -> None:
    folder = make_study(tmp_path, (Section("U1", "U", label_source=keys.UNLABELLED),))
    assert list(sweep_figures(load_study(folder))) == []

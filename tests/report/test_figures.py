from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from figure_checks import check_no_text_overlaps
from hypothesis import given
from hypothesis import strategies as st
from study_folder import Section, make_study

from senca_ray import keys
from senca_ray.report.figures import category_figure, render, spread, sweep_figures, value_figure
from senca_ray.report.view import StudyView, load_study, settings_of

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
    block = view.sections[view.sections["block"] == "annotated, with image"].query(
        "clustering != 'consensus'"
    )
    model = block[block[keys.METHOD] == "senca"].set_index([keys.SAMPLE, keys.SETTING])["mean_ari"]
    for sample in ("A1", "C1"):
        values = [model[sample, f"neighbors={n}"] for n in (4, 8, 16)]
        assert any(y.shape == (3,) and np.array_equal(y, values, equal_nan=True) for y in drawn), sample
    single = view.summary.query("block == 'annotated, with image' and clustering != 'consensus'")
    means = single.loc[single[keys.METHOD] == "senca", "mean_ari"]
    assert any(y.shape == (3,) and np.allclose(y, means) for y in drawn)


def same_scores(view: StudyView) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summary and sections of a block of 36 sections that all score the same."""
    names = [f"section-with-a-long-name-{i}" for i in range(36)]
    template = view.sections.query("sample == 'A1' and method == 'senca' and clustering != 'consensus'")
    sections = pd.concat([template.assign(**{keys.SAMPLE: name, "mean_ari": 0.31}) for name in names])
    single = view.summary.query("block == 'annotated, with image' and clustering != 'consensus'")
    return single.assign(mean_ari=0.31), sections


def test_text_never_overlaps_even_where_all_sections_score_the_same(finished: Path, ablation: Path) -> None:
    for folder, draw in ((finished, value_figure), (ablation, category_figure)):
        view = load_study(folder)
        check_no_text_overlaps(draw(*same_scores(view), view.description, (0.0, 1.0)), 36 + 4)


def test_an_ablation_names_every_variant_in_full_the_default_first(ablation: Path) -> None:
    figure = dict(sweep_figures(load_study(ablation)))["annotated, with image"]
    axes = figure.axes[0]
    names = [label.get_text().replace("\n", " ") for label in axes.get_yticklabels()]
    assert names[:5] == [
        "full (default)",
        "without cross-attention weights",
        "without hierarchical learning",
        "without image",
        "without graph",
    ]
    assert sorted(names[5:]) == ["coordinates", "smoothed-image", "smoothed-pca", "untrained"]
    low, high = axes.get_ylim()
    assert low > high, "the first is on top"


def test_an_ablation_s_dots_are_the_tables_numbers(ablation: Path) -> None:
    view = load_study(ablation)
    drawn = [line.get_xydata() for line in dict(sweep_figures(view))["annotated, with image"].axes[0].lines]
    single = view.summary.query("block == 'annotated, with image' and clustering != 'consensus'")
    means = single[single[keys.METHOD] == "senca"].set_index(keys.SETTING)["mean_ari"]
    expected = np.column_stack([means[settings_of(view.description)], np.arange(5)])
    assert any(points.shape == (5, 2) and np.allclose(points, expected) for points in drawn)
    for place, control in enumerate(single[single[keys.METHOD] != "senca"].itertuples()):
        assert any(
            np.allclose(points, [[control.mean_ari, 5.5 + place]]) for points in drawn if len(points) == 1
        )


def test_a_variant_that_a_block_has_not_run_is_left_out_there(ablation: Path) -> None:
    """A section without image is the same with and without the image branch."""
    view = load_study(ablation)
    summary, sections = same_scores(view)
    rest = (frame[frame[keys.SETTING] != "without image"] for frame in (summary, sections))
    labels = category_figure(*rest, view.description, (0.0, 1.0)).axes[0].get_yticklabels()
    assert [label.get_text() for label in labels][:4][-1] == "without graph" and len(labels) == 8


def test_a_search_compares_the_tuned_setting_with_the_default(search: Path) -> None:
    figure = dict(sweep_figures(load_study(search)))["annotated, with image"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][:2] == ["default", "tuned"]


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_study_gives_the_same_bytes(finished: Path, kind: str) -> None:
    first, second = ([render(f, kind) for _, f in sweep_figures(load_study(finished))] for _ in range(2))
    assert first == second


def test_no_labels_no_figure(tmp_path: Path) -> None:
    folder = make_study(tmp_path, (Section("U1", "U", label_source=keys.UNLABELLED),))
    assert list(sweep_figures(load_study(folder))) == []

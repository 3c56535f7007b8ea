from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import EllipseCollection, PathCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.text import Text

from senca_ray import keys
from senca_ray.errors import SencaError
from senca_ray.report.figures import SECTION, render
from senca_ray.report.maps import UNDETERMINED_COLOUR, colour_of
from senca_ray.report.marker_figures import expression_maps, marker_figure

GENES = ("COL1A1", "KRT2", "A-GENE-OF-A-LONG-NAME", "$G_x$")


def markers(regions: int = 3, genes: tuple[str, ...] = GENES) -> pd.DataFrame:
    """Every number of every cell differs; the last region is not tested."""
    n = regions * len(genes)
    frame = pd.DataFrame(
        {
            "region": np.repeat(np.arange(regions) * 2, len(genes)),
            "gene": np.tile(np.array(genes, dtype=object), regions),
            "n_spots_in": np.repeat(np.arange(regions) + 1000, len(genes)),
            "p_adjusted": np.linspace(0, 0.12, n),
            "effect": np.linspace(1, -1, n),
            "fraction_in": np.linspace(0, 1, n),
        }
    )
    frame.loc[frame["region"] == 2 * regions - 2, ["p_adjusted", "effect"]] = np.nan
    return frame


def dots_of(figure: Figure) -> PathCollection:
    FigureCanvasAgg(figure).draw()
    [dots] = figure.findobj(PathCollection)
    return dots


def check_texts(figure: Figure) -> list[str]:
    """No text leaves the figure or covers another; returns the texts."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
    width, height = canvas.get_width_height()
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text.get_text()
    for (one, a), (other, b) in combinations(zip(texts, boxes, strict=True), 2):
        overlap = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(overlap) < 2, (one.get_text(), other.get_text())
    return [t.get_text() for t in texts]


def test_every_region_and_gene_has_one_dot() -> None:
    frame = markers()
    order = ("$G_x$", "absent", "KRT2", "COL1A1", "KRT2")
    figure = marker_figure(frame.sample(frac=1, random_state=0), order)
    dots = dots_of(figure)
    places = np.asarray(dots.get_offsets())
    assert len(places) == 3 * 3 == len(np.unique(places, axis=0))
    cells = frame.set_index(["region", "gene"])
    for (x, y), area, effect in zip(places, dots.get_sizes(), dots.get_array().filled(np.nan), strict=True):
        cell = cells.loc[int(y) * 2, ("$G_x$", "KRT2", "COL1A1")[int(x)]]
        assert area == pytest.approx(4 + 186 * cell["fraction_in"])
        assert effect == pytest.approx(cell["effect"], nan_ok=True)
    assert dots.norm(0) == 0.5 and (dots.norm.vmin, dots.norm.vmax) == (-1, 1)


def test_a_ring_says_not_significant_and_white_not_tested() -> None:
    frame = markers()
    dots = dots_of(marker_figure(frame, GENES))
    rings, faces = dots.get_edgecolors(), dots.get_facecolors()
    ringed = (rings == to_rgba(SECTION)).all(axis=1)
    np.testing.assert_array_equal(ringed, ~(frame["p_adjusted"] < 0.05))
    assert (rings[~ringed, 3] == 0).all()
    white = (faces == to_rgba("white")).all(axis=1)
    np.testing.assert_array_equal(white, frame["effect"].isna())


def test_up_is_warm_and_down_is_cold() -> None:
    frame = markers(2, ("A", "B")).assign(effect=[0.6, -0.6, 0.0, 0.0])
    dots = dots_of(marker_figure(frame, ("A", "B")))
    up, down, none = (dots.get_facecolors()[i] for i in range(3))
    assert up[0] > up[2] + 0.2 and down[2] > down[0] + 0.2 and np.ptp(none[:3]) < 0.02


@pytest.mark.parametrize(("regions", "genes"), [(1, 1), (2, 30), (16, 2), (7, 24)])
def test_texts_of_dots_fit(regions: int, genes: int) -> None:
    names = tuple(f"GENE-{'N' * (i % 9)}{i}" for i in range(genes))
    texts = check_texts(marker_figure(markers(regions, names), names))
    assert {*names, f"region 0 ({1000} spots)"} <= {*texts}


def test_a_name_is_no_formula_and_genes_come_as_asked() -> None:
    figure = marker_figure(markers(), ("$G_x$", "COL1A1"))
    labels = [
        label
        for axes in figure.findobj(lambda a: hasattr(a, "get_xticklabels"))
        for label in axes.get_xticklabels()
    ]
    assert [label.get_text() for label in labels][:2] == ["$G_x$", "COL1A1"]
    assert not labels[0].get_parse_math()


def test_no_gene_to_draw_is_an_error() -> None:
    with pytest.raises(SencaError, match="none of the 1 genes"):
        marker_figure(markers(), ("absent",))


def grid(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2).astype(float)


@pytest.mark.parametrize("genes", [1, 3, 8])
def test_maps_have_a_panel_for_the_regions_and_each_gene(genes: int) -> None:
    xy = grid(9, 6)
    regions = np.arange(54) % 3 - 1
    values = {f"$G_{i}$": np.arange(54.0) * i for i in range(genes)}
    figure = expression_maps(xy, regions, values)
    texts = check_texts(figure)
    assert {"regions", "none", "0", "1", *values} <= {*texts}
    maps = figure.findobj(EllipseCollection)
    assert len(maps) == 1 + genes
    for spots in maps:
        np.testing.assert_array_equal(spots.get_offsets(), xy)
    coloured = [to_hex(colour) for colour in maps[0].get_facecolors()]
    assert coloured == [colour_of(region).lower() for region in regions.tolist()]
    assert UNDETERMINED_COLOUR.lower() in coloured and keys.NO_REGION in regions
    for spots, levels in zip(maps[1:], values.values(), strict=True):
        np.testing.assert_array_equal(spots.get_array(), levels)
        assert (spots.norm.vmin, spots.norm.vmax) == (0, max(levels.max(), 1))
        shades = spots.get_facecolors()[:, :3].sum(axis=1)
        assert (np.diff(shades) <= 1e-9).all(), "darker where higher"
        assert spots.axes.yaxis_inverted(), "as in the H&E image"


def test_the_same_maps_give_the_same_bytes() -> None:
    xy, levels = grid(4, 3), {"A": np.arange(12.0)}
    first, second = (render(expression_maps(xy, np.arange(12) % 2, levels), "svg") for _ in range(2))
    assert first == second

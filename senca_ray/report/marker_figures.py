"""The figures of marker genes: regions by genes as dots, and maps of single genes beside the regions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection, PathCollection
from matplotlib.colors import BoundaryNorm, Colormap, LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from senca_ray import keys
from senca_ray.analysis.statistics import SIGNIFICANCE
from senca_ray.errors import SencaError
from senca_ray.report.figures import CONTROL, INK, SECTION, STYLE
from senca_ray.report.maps import UNDETERMINED_COLOUR, colour_of

_EFFECTS = LinearSegmentedColormap.from_list(
    "effects", [INK, "#6FA3C4", "#F4F4F2", "#E39A6B", CONTROL]
).with_extremes(bad="white")
"""Blue below 0 and orange above, which every kind of colour vision tells apart; white where not tested."""
_LEVELS = LinearSegmentedColormap.from_list("levels", ["#E9EBEE", "#B4CDDE", "#5B93B8", INK])
_LEAST_MAXIMUM = 1.0
"""A scale of expression goes at least this far, so that a gene without a count is not all dark."""
_LEAST_AREA, _LARGEST_AREA, _RING = 4.0, 190.0, 1.1
"""A dot without and with all spots expressing the gene, in square points, and its ring, in points."""
_CELL, _GAP, _LEGEND_WIDTH, _LEGEND_HEIGHT = 0.3, 0.12, 1.9, 2.2
"""Inches: a dot's cell, the space around texts, and the legends beside."""
_MAP, _BAR, _TITLE, _COLUMNS, _DISC = 2.2, 0.5, 0.35, 3, 0.85
"""Inches of a map, of the scale beside and the title above it; maps in a row; a spot in spot distances."""


def marker_figure(markers: pd.DataFrame, genes: Sequence[str]) -> Figure:
    """Draw the markers of one section as dots, a line a region, a column a gene in the given order.

    The larger a dot, the more of the region's spots express the gene; orange is higher inside than outside,
    blue lower. A grey ring says that this is not significant, or was not tested (then the dot is white).
    Genes without rows in `markers` are left out; raises SencaError when that leaves none.
    """
    known = set(markers["gene"])
    names = [gene for gene in dict.fromkeys(genes) if gene in known]
    if not names:
        raise SencaError(
            f"none of the {len(genes)} genes to draw is among the {len(known)} of the markers; "
            "name genes of the section"
        )
    cells = markers[markers["gene"].isin(names)]
    spots = cells.groupby("region")["n_spots_in"].first()
    labels = [f"region {region} ({n} spots)" for region, n in spots.items()]
    across, down = _CELL * len(names), _CELL * len(labels)
    left, below = _text_width(labels) + 2 * _GAP, _text_width(names) + 2 * _GAP
    width, height = left + across + _LEGEND_WIDTH, max(below + down, _LEGEND_HEIGHT) + _GAP
    figure = Figure(figsize=(width, height))
    with rc_context(STYLE):
        axes = figure.add_axes(
            (left / width, (height - _GAP - down) / height, across / width, down / height),
            xlim=(-0.5, len(names) - 0.5),
            ylim=(len(labels) - 0.5, -0.5),
        )
        axes.set_xticks(range(len(names)), names, rotation=90, style="italic", parse_math=False)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        dots = axes.scatter(
            cells["gene"].map(names.index),
            cells["region"].map(spots.index.get_loc),
            s=_area(cells["fraction_in"].to_numpy()),
            c=cells["effect"],
            cmap=_EFFECTS,
            norm=Normalize(-1, 1),
            plotnonfinite=True,
            edgecolors=np.where(cells["p_adjusted"] < SIGNIFICANCE, "none", SECTION).tolist(),
            linewidths=_RING,
        )
        _explain_dots(figure, dots, left + across)
    return figure


def _text_width(texts: Sequence[str]) -> float:
    """Inches that the longest text takes at the size of axis labels."""
    font = FontProperties(family=STYLE["font.family"], size=STYLE["font.size"])
    return max(text_to_path.get_text_width_height_descent(text, font, False)[0] for text in texts) / 72


def _area(fractions: np.ndarray) -> np.ndarray:
    return _LEAST_AREA + (_LARGEST_AREA - _LEAST_AREA) * fractions


def _explain_dots(figure: Figure, dots: PathCollection, left: float) -> None:
    """Draw a legend of the dots' sizes and rings and a bar of their colours, from `left` inches on."""
    shares = np.array([0, 0.25, 0.5, 1, 0.5])
    looks = [(f"in {share:.0%} of spots", UNDETERMINED_COLOUR, "none") for share in shares[:4]]
    looks += [(f"adjusted p ≥ {SIGNIFICANCE},\nor not tested", "none", SECTION)]
    handles = [
        Line2D(
            *([], []),
            linestyle="none",
            marker="o",
            markersize=math.sqrt(area),
            markerfacecolor=face,
            markeredgecolor=ring,
            markeredgewidth=_RING,
            label=text,
        )
        for (text, face, ring), area in zip(looks, _area(shares).tolist(), strict=True)
    ]
    width, height = figure.get_size_inches()
    corner = (left + _GAP) / width, 1 - _GAP / height
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=corner,
        frameon=False,
        borderpad=0,
        labelspacing=0.8,
        fontsize=8,
    )
    place = (left + 0.35) / width, 0.55 / height, (_LEGEND_WIDTH - 0.7) / width, 0.13 / height
    bar = figure.colorbar(dots, cax=figure.add_axes(place), orientation="horizontal", ticks=[-1, 0, 1])
    bar.set_ticklabels(["-1\nlower\ninside", "0\neffect\n", "1\nhigher\ninside"], fontsize=8)
    bar.outline.set_visible(False)


def expression_maps(xy: np.ndarray, regions: np.ndarray, values: Mapping[str, np.ndarray]) -> Figure:
    """Draw the regions of a section and beside them one map a gene, dark where it is expressed most.

    Shapes: xy (N, 2) in spot distances, y down; regions (N,); values (N,) of every gene, in order, as from
    `senca_ray.analysis.markers.log_expression`. Every gene has a scale of its own, from 0 to its maximum.
    """
    rows, columns = math.ceil((1 + len(values)) / _COLUMNS), min(1 + len(values), _COLUMNS)
    width, height = np.ptp(xy, axis=0) + 2
    size = (_MAP + _BAR) * columns, (_MAP * height / width + _TITLE) * rows
    figure = Figure(figsize=size, layout="constrained")
    with rc_context(STYLE):
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        names, codes = np.unique(regions, return_inverse=True)
        hues = ListedColormap([colour_of(region) for region in names.tolist()])
        steps = BoundaryNorm(np.arange(len(names) + 1) - 0.5, len(names))
        ticks = {i: "none" if r == keys.NO_REGION else str(r) for i, r in enumerate(names.tolist())}
        _draw_map(panels[0], xy, codes, hues, steps, ticks).set_title("regions", fontsize=9)
        for axes, (gene, levels) in zip(panels[1:], values.items(), strict=False):
            scale = Normalize(0, max(float(levels.max()), _LEAST_MAXIMUM))
            titled = _draw_map(axes, xy, levels, _LEVELS, scale)
            titled.set_title(gene, fontsize=9, style="italic", parse_math=False)
        for axes in panels[1 + len(values) :]:
            axes.set_visible(False)
    return figure


def _draw_map(
    axes: Axes,
    xy: np.ndarray,
    values: np.ndarray,
    colours: Colormap,
    scale: Normalize,
    ticks: Mapping[int, str] | None = None,
) -> Axes:
    """Draw a disc a spot coloured by `values` (N,), and the scale beside; `ticks` name some of its values."""
    sizes = np.full(len(xy), _DISC)
    spots = EllipseCollection(
        *(sizes, sizes, np.zeros(len(xy))),
        units="xy",
        offsets=xy,
        offset_transform=axes.transData,
        array=values,
        cmap=colours,
        norm=scale,
        rasterized=True,  # thousands of spots a map would weigh megabytes as paths
    )
    axes.add_collection(spots)
    (left, top), (right, bottom) = xy.min(axis=0) - 1, xy.max(axis=0) + 1
    axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    bar = axes.figure.colorbar(spots, ax=axes, shrink=0.7, aspect=12, pad=0.02)
    if ticks is not None:
        bar.set_ticks(list(ticks), labels=list(ticks.values()))
        bar.ax.minorticks_off()
        bar.ax.invert_yaxis()  # read from the top, like every list
    bar.ax.tick_params(length=0, labelsize=7)
    bar.outline.set_visible(False)
    return axes

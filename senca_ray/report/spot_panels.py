"""What a panel of a paper's figure shows: tissue, spots by region or label, expression, UMAP."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection
from matplotlib.colors import Normalize
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from PIL import Image
from shapely import MultiPolygon

from senca_ray.report.figure_panels import SMALL
from senca_ray.report.maps import NOT_CLUSTERED, PALETTE, SectionMaps, colour_of

Draw = Callable[[Axes], ScalarMappable | None]

BAR_SPOTS = 5
"""Length of a scale bar, in spot distances."""
LEVELS, SHARES = "magma_r", "cividis"
"""Perceptually uniform: of expression, dark where it is high, and of the share of seeds that agree."""
_DISC, _RIM, _OUTLINE = 0.88, 0.2, 0.7
"""A spot in spot distances; points of its rim and of a region's outline."""
_MARGIN = 1.2
"""Spot distances around the spots of a trimmed section: room for outlines and the scale bar."""
_PALE_RIM, _DARK_RIM = "#666666", "#000000"
EXTREMES = (0.02, 0.98)
"""Shares of the spots between which a scale of expression lies."""
_LEAST_RANGE = 1.0
"""A scale of expression is at least so long, so that a gene without a count is not all dark."""
_AXIS = 0.06
"""Share of a UMAP's panel that the names of its axes take."""
_UMAP_AREA, _UMAP_DOTS = 2400.0, (1.5, 9.0)
"""Square points that all spots of a UMAP take together, and the least and the most that one takes."""


def rim_of(code: int) -> str:
    """Colour of a spot's rim: codes beyond the palette repeat its colours with a dark one."""
    return _DARK_RIM if code >= len(PALETTE) else _PALE_RIM


def trimmed(section: SectionMaps) -> SectionMaps:
    """The section without its image, cut closer to its spots."""
    margin = _MARGIN * section.spacing
    xy = section.xy - section.xy.min(axis=0) + margin
    width, height = np.ceil(xy.max(axis=0) + margin).astype(int).tolist()
    return dataclasses.replace(section, image=None, xy=xy, size=(width, height))


def aspect(section: SectionMaps) -> float:
    """Height by width of a panel of the section."""
    width, height = section.size
    return height / width


def tissue(section: SectionMaps) -> Draw:
    """The H&E image."""
    image = Image.open(io.BytesIO(section.image or b""))

    def draw(axes: Axes) -> None:
        width, height = section.size
        # Its own pixels, whatever the file's resolution: PDF readers scale better than a second sampling.
        axes.imshow(image, extent=(0, width, height, 0), interpolation="none")
        _frame(axes, section)

    return draw


def spots(
    section: SectionMaps, codes: np.ndarray | None, outlines: dict[int, MultiPolygon] | None = None
) -> Draw:
    """Spots coloured by `codes` (N,), all pale without; with outlines, these and the number of each."""
    places = np.full(len(section.xy), NOT_CLUSTERED) if codes is None else codes

    def draw(axes: Axes) -> None:
        faces = [colour_of(code) for code in places.tolist()]
        _discs(axes, section, facecolors=faces, edgecolors=[rim_of(code) for code in places.tolist()])
        _frame(axes, section)
        for region, outline in (outlines or {}).items():
            _draw_outline(axes, outline, "black")
            _number(axes, region, outline)

    return draw


def expression(section: SectionMaps, levels: np.ndarray, outlines: Iterable[MultiPolygon]) -> Draw:
    """Spots by log-normalised expression (N,), dark where it is high; the marked regions outlined.

    The scale leaves out the extremes that few spots have: with them most genes would show little.
    """
    low, high = np.quantile(levels, EXTREMES).tolist()

    def draw(axes: Axes) -> EllipseCollection:
        scale = Normalize(low, max(high, low + _LEAST_RANGE))
        shown = _discs(axes, section, array=levels, cmap=LEVELS, norm=scale, edgecolors=_PALE_RIM)
        _frame(axes, section)
        for outline in outlines:
            _draw_outline(axes, outline, "#0072B2")
        return shown

    return draw


def umap(places: np.ndarray, codes: np.ndarray) -> Draw:
    """Spots at `places` (N, 2) coloured by `codes` (N,)."""
    order = _shuffled(places)

    def draw(axes: Axes) -> None:
        faces = [colour_of(code) for code in codes[order].tolist()]
        rims = [rim_of(code) for code in codes[order].tolist()]
        x, y = places[order].T
        axes.scatter(x, y, s=_dot(len(order)), c=faces, edgecolors=rims, linewidths=_RIM)
        _umap_frame(axes)

    return draw


def umap_shares(places: np.ndarray, shares: np.ndarray) -> Draw:
    """Spots at `places` (N, 2) by the share of seeds that agree with their region (N,)."""
    order = _shuffled(places)

    def draw(axes: Axes) -> ScalarMappable:
        scale = Normalize(min(float(np.nanmin(shares)), 0.5), 1)
        x, y = places[order].T
        shown = axes.scatter(
            *(x, y),
            s=_dot(len(order)),
            c=shares[order],
            cmap=SHARES,
            norm=scale,
            edgecolors=_PALE_RIM,
            linewidths=_RIM,
        )
        _umap_frame(axes)
        return shown

    return draw


def barred(draw: Draw, section: SectionMaps) -> Draw:
    """The same with a bar of BAR_SPOTS spot distances in the lower left corner."""
    x, y = 0.5 * section.spacing, section.size[1] - 0.3 * section.spacing
    ends = [x, x + BAR_SPOTS * section.spacing]

    def also(axes: Axes) -> ScalarMappable | None:
        shown = draw(axes)
        for colour, width in (("white", 3.0), ("black", 1.5)):
            axes.plot(ends, [y, y], color=colour, linewidth=width, solid_capstyle="butt", zorder=5)
        return shown

    return also


def _discs(axes: Axes, section: SectionMaps, **look: Any) -> EllipseCollection:
    sizes = np.full(len(section.xy), _DISC * section.spacing)
    shown = EllipseCollection(
        *(sizes, sizes, np.zeros(len(sizes))),
        units="xy",
        offsets=section.xy,
        offset_transform=axes.transData,
        linewidths=_RIM,
        **look,
    )
    axes.add_collection(shown)
    return shown


def _frame(axes: Axes, section: SectionMaps) -> None:
    width, height = section.size
    axes.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _umap_frame(axes: Axes) -> None:
    place = axes.get_position()
    left, low = place.x0 + _AXIS * place.width, place.y0 + _AXIS * place.height
    axes.set_position((left, low, place.x1 - left, place.y1 - low))
    axes.set(xticks=[], yticks=[])
    axes.margins(0.04)
    axes.spines[["top", "right"]].set_visible(False)
    named: dict[str, Any] = {"fontsize": SMALL, "transform": axes.transAxes}
    axes.text(0, -0.01, "UMAP 1", ha="left", va="top", **named)
    axes.text(-0.01, 0, "UMAP 2", ha="right", va="bottom", rotation=90, **named)


def _draw_outline(axes: Axes, outline: MultiPolygon, colour: str) -> None:
    rings = [ring for part in outline.geoms for ring in (part.exterior, *part.interiors)]
    paths = [Outline(np.asarray(ring.coords), closed=True) for ring in rings]
    shape = Outline.make_compound_path(*paths)
    axes.add_patch(PathPatch(shape, facecolor="none", edgecolor=colour, linewidth=_OUTLINE, zorder=3))


def _number(axes: Axes, region: int, outline: MultiPolygon) -> None:
    """Write a region's number inside its largest part."""
    place = max(outline.geoms, key=lambda part: part.area).representative_point()
    ground = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
    axes.text(
        *(place.x, place.y, str(region)), size=SMALL, ha="center", va="center_baseline", bbox=ground, zorder=4
    )


def _shuffled(places: np.ndarray) -> np.ndarray:
    """Indices of the spots that have a place, in an order that lets no region cover another."""
    return np.random.default_rng(0).permutation(np.flatnonzero(np.isfinite(places).all(axis=1)))


def _dot(n: int) -> float:
    low, high = _UMAP_DOTS
    return min(max(_UMAP_AREA / max(n, 1), low), high)

"""Outlines of regions: what drawings of a section and files for other programs show as polygons."""

from __future__ import annotations

import numpy as np
import shapely
from scipy.spatial import KDTree, Voronoi

from senca_ray.errors import SencaError

_REACH = 0.75
"""How far tissue reaches beyond a spot, in spot distances: just more than half the diagonal of a square
array, so that no gap is left between four spots."""
_STEPS = 4
"""Edges of a quarter of the disc around a spot."""
_SMALL_GAP = 0.5
"""Gaps inside the tissue smaller than this, in squared spot distances, are closed: where one spot is missing,
and between spots that stand a little off their array."""
_FRAME = 10.0
"""How far from the spots the points lie that keep the outermost spots' cells finite, in spot distances."""
_GRID = 1e-6
"""Lines are drawn on a grid this fine, in spot distances: there they cross exactly, on an array too."""


def region_outlines(xy: np.ndarray, spacing: float, regions: np.ndarray) -> dict[int, shapely.MultiPolygon]:
    """Outline every region: what is nearest to one of its spots, and within 0.75 spot distances of a spot.

    Shapes: xy (N, 2) in any unit, spacing the distance of neighbouring spots in that unit, regions (N,).
    Spots of a negative region have no outline and stay gaps in those of their neighbours; the gap of a single
    missing spot goes to these. Regions share borders and do not overlap; each spot lies in the outline of its
    own region. Outlines come by region, in the unit of xy; outer rings are counterclockwise where y points
    upwards.
    Raises SencaError where a spot lies nowhere or two lie at the same place.
    """
    names = np.unique(regions[regions >= 0]).tolist()
    if not names:
        return {}
    _check(xy, spacing)
    origin = xy.mean(axis=0)
    places = (xy - origin) / spacing
    faces = shapely.get_parts(shapely.polygonize(_lines(places, np.maximum(regions, -1))))
    of_spot, of_face = shapely.STRtree(faces).query(shapely.points(places), predicate="within")
    outlines = {}
    for region in names:
        own = faces[np.unique(of_face[regions[of_spot] == region])]
        placed = shapely.transform(shapely.MultiPolygon(list(own)), lambda at: at * spacing + origin)
        outlines[region] = shapely.orient_polygons(placed)
    return outlines


def spot_spacing(xy: np.ndarray) -> float:
    """Distance of neighbouring spots at xy (N, 2): the median to the nearest one; 1 for a single spot."""
    near = KDTree(xy).query(xy, k=2)[0][:, 1] if len(xy) > 1 else np.ones(1)
    return float(np.median(near)) or 1.0


def _lines(places: np.ndarray, regions: np.ndarray) -> list[shapely.Geometry]:
    """The rim of the tissue and the borders of regions, cut where they cross."""
    # Points all around: every cell is finite, and places on one line are no special case.
    low, high = places.min(axis=0) - _FRAME, places.max(axis=0) + _FRAME
    frame = [(x, y) for x in (low[0], high[0]) for y in (low[1], high[1])]
    cells = Voronoi(np.concatenate([places, frame]))
    pairs = cells.ridge_points
    real = (pairs < len(places)).all(axis=1)
    border = real.copy()
    border[real] = regions[pairs[real, 0]] != regions[pairs[real, 1]]
    ends = cells.vertices[np.array(cells.ridge_vertices)[border]]
    borders = shapely.linestrings(ends) if len(ends) else np.empty(0, dtype=object)
    return list(shapely.get_parts(shapely.union_all([*_rims(places), *borders], grid_size=_GRID)))


def _rims(places: np.ndarray) -> list[shapely.Geometry]:
    """Where the tissue ends: closed lines around places (N, 2)."""
    # A disc is drawn as a polygon that contains it.
    radius = _REACH / np.cos(np.pi / 4 / _STEPS)
    discs = shapely.buffer(shapely.points(places), radius, quad_segs=_STEPS)
    tissue = shapely.get_parts(shapely.union_all(discs))
    gaps = [ring for part in tissue for ring in part.interiors]
    outer = [part.exterior for part in tissue]
    return outer + [ring for ring in gaps if shapely.Polygon(ring).area >= _SMALL_GAP]


def _check(xy: np.ndarray, spacing: float) -> None:
    lost = ~np.isfinite(xy).all(axis=1)
    if lost.any():
        raise SencaError(
            f"spot {np.flatnonzero(lost)[0]} has no position; regions are outlined only where all have one"
        )
    # Nearer than the grid can tell is the same place.
    twice = KDTree(xy).query_pairs(100 * _GRID * spacing)
    if twice:
        a, b = min(twice)
        raise SencaError(
            f"spots {a} and {b} lie at the same place; regions are outlined only where every spot has its own"
        )

"""Where spots are: grids of array coordinates, distances between spots, and mistaken frames of the image."""

from __future__ import annotations

import numpy as np

from senca_ray.data.readers.tables import quantity
from senca_ray.errors import SencaError

VISIUM_UM = 100.0
"""Distance of adjacent spots on Visium's hexagonal arrays in micrometres (10x Genomics: 55 µm spots, 100 µm
centre to centre)."""

_CORNER = 0.25
"""Positions that fill no more than this share of the image's width and height, from its top left corner on,
are taken for those of a reduced image: Space Ranger's hires image has 0.05 to 0.2 of the full resolution."""
_FEW = 10
"""Below this number of spots, chance decides what positions look like."""


def on_hexagons(rows: np.ndarray, columns: np.ndarray) -> bool:
    """Whether whole array coordinates (N,) are Visium's, where row + column has one parity."""
    return len(rows) >= _FEW and len(np.unique((rows + columns) % 2)) == 1


def grid_xy(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N, 2) positions in spot distances from whole array coordinates (N,), of a hexagonal or square grid.

    On Visium's arrays neighbours in a row are two columns apart, and rows half the square root of three.
    """
    if on_hexagons(rows, columns):
        return np.column_stack([columns / 2, rows * np.sqrt(3) / 2])
    return np.column_stack([columns, rows]).astype(np.float64)


def spot_distance(positions: np.ndarray) -> float:
    """Median distance of (N, 2) positions to the nearest other one; raises SencaError where that is 0."""
    from scipy.spatial import KDTree

    if len(positions) < 2:
        raise SencaError(f"{quantity(len(positions), 'spot')}; expected two or more to tell their distance")
    distances, _ = KDTree(positions).query(positions, k=2)
    distance = float(np.median(distances[:, 1]))
    if not distance > 0:
        raise SencaError(
            "most spots share their position with another one; expected a position of its own for every "
            "spot; several sections may lie on top of each other: write a file for each"
        )
    return distance


def frame_problem(pixel_xy: np.ndarray, size: tuple[int, int]) -> str:
    """What is wrong with positions (N, 2) in an image of `size` (width, height) pixels; '' for nothing."""
    if not len(pixel_xy):
        return ""
    low, high = pixel_xy.min(axis=0), pixel_xy.max(axis=0)
    found = f"x from {low[0]:g} to {high[0]:g}, y from {low[1]:g} to {high[1]:g}"
    outside = int((~((pixel_xy >= 0) & (pixel_xy < size)).all(axis=1)).sum())
    if outside:
        turned = bool((low >= 0).all() and high[0] < size[1] and high[1] < size[0])
        likely = "x and y are probably swapped" if turned else "they are probably for another resolution"
        return (
            f"{outside:,} of {quantity(len(pixel_xy), 'spot')} outside the image of {size[0]} x {size[1]} "
            f"pixels: {found}; expected pixels of that image; {likely}: correct them, or use the image they "
            "are for"
        )
    if len(pixel_xy) >= _FEW and (low >= 0).all() and (high <= _CORNER * np.array(size)).all():
        return (
            f"all spots in the top left corner of the image of {size[0]} x {size[1]} pixels: {found}; "
            "expected pixels of the full-resolution image; they are probably for a reduced one: divide "
            "them by its scale factor"
        )
    return ""


def swapped(xy: np.ndarray, pixel_xy: np.ndarray) -> bool:
    """Whether pixel x goes with the array's y, and pixel y with its x, for positions (N, 2).

    An image that was turned by a quarter has one of the two reversed, so it is not taken for swapped.
    """
    if len(xy) < _FEW or (np.ptp(xy, axis=0) == 0).any() or (np.ptp(pixel_xy, axis=0) == 0).any():
        return False
    correlation = np.corrcoef(xy.T, pixel_xy.T)[:2, 2:]
    own = np.abs(np.diag(correlation))
    crossed = min(correlation[0, 1], correlation[1, 0])
    return bool(crossed > 0.9 and (own < 0.5).all())

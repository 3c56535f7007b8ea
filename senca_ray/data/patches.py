"""Image patches around spots."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from senca_ray.config import PrepareConfig
from senca_ray.data.pictures.picture import GLASS, Picture
from senca_ray.errors import SencaError

__all__ = ["GLASS", "crop_patches", "patch_batches", "patch_radius_pixels", "spot_distance_pixels"]


def spot_distance_pixels(pixel_xy: np.ndarray) -> float:
    """Return the distance between adjacent spots in pixels: the median nearest-neighbour distance.

    Shapes: pixel_xy (N, 2), N at least 2.
    """
    from sklearn.neighbors import BallTree

    distances, _ = BallTree(pixel_xy).query(pixel_xy, k=2)
    return float(np.median(distances[:, 1]))


def patch_radius_pixels(
    config: PrepareConfig, distance_px: float, spot_distance_um: float | None, um_per_pixel: float | None
) -> float:
    """Return half the side of a patch in pixels.

    `distance_px` is the distance between adjacent spots; with `config.patch_um` the scale is taken from
    `spot_distance_um`, the same distance in micrometres, else from the image's own `um_per_pixel`. Raises
    SencaError where neither is known.
    """
    if config.patch_um is None:
        return config.patch_radius * distance_px
    scale = spot_distance_um / distance_px if spot_distance_um else um_per_pixel
    if not scale:
        raise SencaError(
            f"patch_um is {config.patch_um:g} micrometres, but neither the section's format nor its image "
            "tells how large a pixel is; use patch_radius (in spot distances) or an image with its scale"
        )
    return config.patch_um / 2 / scale


def crop_patches(picture: Picture, pixel_xy: np.ndarray, radius_px: float, size: int) -> np.ndarray:
    """Crop a square patch of half-side `radius_px` (pixels) around every spot and resize it.

    Shapes: pixel_xy (N, 2), x to the right and y down. Returns (N, size, size, 3) uint8; what lies
    outside the image is glass. Source: SENCA-st section 3.3.
    """
    patches = np.empty((len(pixel_xy), size, size, 3), dtype=np.uint8)
    for index in _reading_order(picture, pixel_xy, radius_px):
        x, y = pixel_xy[index]
        left, top = round(x - radius_px), round(y - radius_px)
        # At least a pixel, where a patch is smaller than one.
        width, height = max(1, round(x + radius_px) - left), max(1, round(y + radius_px) - top)
        patches[index] = picture.window(left, top, width, height, (size, size))
    return patches


def patch_batches(
    picture: Picture, pixel_xy: np.ndarray, radius_px: float, size: int, at_once: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows of `pixel_xy`, their patches), `at_once` patches at a time and each spot once.

    The order of the spots is kind to files of tiles; in memory it is that of `pixel_xy`.
    """
    order = _reading_order(picture, pixel_xy, radius_px)
    for start in range(0, len(order), at_once):
        rows = order[start : start + at_once]
        yield rows, crop_patches(picture, pixel_xy[rows], radius_px, size)


def _reading_order(picture: Picture, pixel_xy: np.ndarray, radius_px: float) -> np.ndarray:
    """(N,) bands of a patch's height, each from left to right, so that a tile is decoded about once."""
    if picture.in_memory:
        return np.arange(len(pixel_xy))
    bands = np.floor(pixel_xy[:, 1] / max(2 * radius_px, 1.0))
    return np.lexsort((pixel_xy[:, 0], bands))

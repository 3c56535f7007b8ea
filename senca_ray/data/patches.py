"""Image patches around spots."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.neighbors import BallTree

GLASS = (255, 255, 255)
"""Colour of what lies outside the image: empty glass."""


def spot_distance_pixels(pixel_xy: np.ndarray) -> float:
    """Return the distance between adjacent spots in pixels: the median nearest-neighbour distance.

    Shapes: pixel_xy (N, 2), N at least 2.
    """
    distances, _ = BallTree(pixel_xy).query(pixel_xy, k=2)
    return float(np.median(distances[:, 1]))


def crop_patches(image: Image.Image, pixel_xy: np.ndarray, radius_px: float, size: int) -> np.ndarray:
    """Crop a square patch of half-side `radius_px` (pixels) around every spot and resize it.

    Shapes: pixel_xy (N, 2), x to the right and y down. Returns (N, size, size, 3) uint8; what lies
    outside the image is glass. Source: SENCA-st section 3.3.
    """
    patches = np.empty((len(pixel_xy), size, size, 3), dtype=np.uint8)
    for index, (x, y) in enumerate(pixel_xy):
        box = (round(x - radius_px), round(y - radius_px), round(x + radius_px), round(y + radius_px))
        inside = (max(box[0], 0), max(box[1], 0), min(box[2], image.width), min(box[3], image.height))
        patch = Image.new("RGB", (box[2] - box[0], box[3] - box[1]), GLASS)
        if inside[0] < inside[2] and inside[1] < inside[3]:
            patch.paste(image.crop(inside).convert("RGB"), (inside[0] - box[0], inside[1] - box[1]))
        patches[index] = np.asarray(patch.resize((size, size), Image.Resampling.BILINEAR, reducing_gap=2.0))
    return patches

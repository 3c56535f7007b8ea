"""Checking that a section's image can be used, before any patch is cut from it."""

from __future__ import annotations

from pathlib import Path

from senca_ray.data.images import open_picture


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Return (width, height) of an image in full-resolution pixels after looking for damage.

    Raises SencaError when it is no image, declares more than `max_pixels` pixels or is damaged. What is small
    is decoded whole (a JPEG at an eighth of its size), of anything else the ends and some tiles.
    """
    with open_picture(path, max_pixels) as picture:
        picture.check()
        return picture.size

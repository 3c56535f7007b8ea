"""Checking that a section's image can be used, before any patch is cut from it."""

from __future__ import annotations

from pathlib import Path

from senca_ray.data.images import open_image
from senca_ray.errors import SencaError


def image_size(path: Path, max_pixels: int) -> tuple[int, int]:
    """Return (width, height) of an image in pixels after decoding it once.

    Raises SencaError when it is no image, declares more than `max_pixels` pixels or is damaged. Damage
    such as a cut-off end shows only in decoding; a JPEG is decoded at an eighth of its size.
    """
    with open_image(path, max_pixels) as image:
        width, height = image.size
        try:
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
            image.load()
        except Exception as error:  # noqa: BLE001 - decoders raise all kinds of errors on damaged bytes
            raise SencaError(
                f"the image of {width} x {height} pixels cannot be decoded ({error}); expected a whole "
                "JPEG, PNG or TIFF; copy it again"
            ) from None
    return width, height

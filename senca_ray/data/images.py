"""Opening images within a declared size, and the small copy that figures show."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

from PIL import Image

from senca_ray.errors import SencaError

_THUMBNAIL_SIDE = 1000
"""Longer side of a thumbnail in pixels."""


def open_image(path: Path, max_pixels: int) -> Image.Image:
    """Open an image without decoding it.

    Raises SencaError when it is no image or declares more than `max_pixels` pixels.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns above a size of its own; the limit that counts here is `max_pixels`.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except Image.DecompressionBombError:
        raise SencaError(f"the image declares too many pixels; expected at most {max_pixels:,}") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise SencaError(f"cannot be opened as an image ({error}); expected JPEG, PNG or TIFF") from None
    if image.width * image.height > max_pixels:
        raise SencaError(
            f"the image declares {image.width} x {image.height} pixels; expected at most {max_pixels:,} in "
            "all; use a reduced image with matching pixel coordinates or raise max_image_pixels"
        )
    return image


def thumbnail(image: Image.Image) -> tuple[bytes, float]:
    """Return a small JPEG of the image and its scale (thumbnail pixels an image pixel)."""
    scale = min(1.0, _THUMBNAIL_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.convert("RGB").resize(size, Image.Resampling.BOX, reducing_gap=2.0)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue(), scale

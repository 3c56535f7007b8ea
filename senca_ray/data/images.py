"""Opening images within a declared size, and the small copy that figures show."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from senca_ray.errors import SencaError

_THUMBNAIL_SIDE = 1000
"""Longer side of a thumbnail in pixels."""


def open_image(path: Path, max_pixels: int) -> Image.Image:
    """Open an image without decoding it.

    Raises SencaError when it is no image or declares more than `max_pixels` pixels.
    """
    own_limit = Image.MAX_IMAGE_PIXELS
    try:
        # Pillow warns of and refuses images above a size of its own; what counts here is `max_pixels`.
        Image.MAX_IMAGE_PIXELS = None
        image = Image.open(path, formats=("JPEG", "PNG", "TIFF"))
    except UnidentifiedImageError:
        raise SencaError("cannot be opened: not an image; expected JPEG, PNG or TIFF; convert it") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise SencaError(f"cannot be opened as an image ({error}); expected JPEG, PNG or TIFF") from None
    finally:
        Image.MAX_IMAGE_PIXELS = own_limit
    if image.width * image.height > max_pixels:
        image.close()
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

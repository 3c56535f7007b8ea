"""Opening pictures of any format and size, and the small copy that figures show."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from senca_ray.data.pictures import slide
from senca_ray.data.pictures.picture import Picture, brief
from senca_ray.data.pictures.pillow import WHOLE_PIXELS, PillowPicture, open_image
from senca_ray.data.pictures.scratch import ScratchPicture
from senca_ray.data.pictures.tiff import open_tiff
from senca_ray.data.pictures.tiff_layout import Plain
from senca_ray.errors import SencaError

_THUMBNAIL_SIDE = 1000
"""Longer side of a thumbnail in pixels."""
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""TIFF and BigTIFF, in either byte order."""


def open_picture(path: Path, max_pixels: int) -> Picture:
    """Open an image to be read by window; nothing is decoded yet.

    What reads it follows from what the file holds: OpenSlide for vendors' slides; the tiles needed of a TIFF
    with tiles, levels or planes; Pillow for what is small enough to be decoded whole; for the rest a stream
    into a temporary file. Raises SencaError when it is no image, declares more than `max_pixels` pixels, is
    cut off or compressed in an unknown way.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise SencaError(f"cannot be opened: {brief(error)}; expected an image; copy it again") from None
    if not start:
        raise SencaError("cannot be opened: not an image but 0 bytes; copy it again")
    is_tiff = start in _TIFF_STARTS
    if is_tiff or path.suffix.lower() in slide.SUFFIXES:
        picture = slide.open_slide(path, max_pixels)
        if picture is not None:
            return picture
    if not is_tiff:
        return _open_image(path, max_pixels)
    opened = open_tiff(path, max_pixels)
    if not isinstance(opened, Plain):
        return opened
    if opened.size[0] * opened.size[1] > WHOLE_PIXELS:
        return ScratchPicture(path, "TIFF", opened.size, opened.um_per_pixel)
    return PillowPicture(open_image(path, max_pixels), opened.um_per_pixel)


def thumbnail(picture: Picture) -> tuple[bytes, float]:
    """Return a small JPEG of the picture and its scale (thumbnail pixels an image pixel)."""
    width, height = picture.size
    scale = min(1.0, _THUMBNAIL_SIDE / max(width, height))
    out = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = picture.resized((0, 0, width, height), out, Image.Resampling.BOX)
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=80)
    return buffer.getvalue(), scale


def _open_image(path: Path, max_pixels: int) -> Picture:
    """A JPEG or PNG, which has no levels."""
    image = open_image(path, max_pixels)
    if image.width * image.height > WHOLE_PIXELS:
        return ScratchPicture.of_image(path, image)
    return PillowPicture(image)

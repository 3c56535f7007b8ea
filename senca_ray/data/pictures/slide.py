"""Whole-slide formats, through OpenSlide: SVS, NDPI, MRXS, SCN, BIF, VMS and what else it knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from senca_ray.data.pictures.picture import Picture, brief, over_glass
from senca_ray.data.pictures.pillow import check_declared
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from openslide import OpenSlide

SUFFIXES = {".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".dcm"}
_GENERIC = "generic-tiff"
"""OpenSlide's word for a tiled TIFF of no vendor: read as any other TIFF."""


class SlidePicture(Picture):
    """A whole slide; OpenSlide keeps a few tiles decoded and no more."""

    expected = "slide with all its files"

    def __init__(self, slide: OpenSlide) -> None:
        self._slide = slide
        self.levels = tuple(slide.level_dimensions)
        scale = slide.properties.get("openslide.mpp-x")
        self.um_per_pixel = float(scale) if scale else None

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        """RGB pixels of a box; what was not scanned is glass."""
        across, down = (full / own for full, own in zip(self.size, self.levels[level], strict=True))
        corner = (round(left * across), round(top * down))
        return over_glass(self._slide.read_region(corner, level, (width, height)))

    def close(self) -> None:
        """Close the slide."""
        self._slide.close()


def open_slide(path: Path, max_pixels: int) -> SlidePicture | None:
    """Open a slide of a vendor's format; None for other files. Raises SencaError when it is damaged."""
    try:
        from openslide import OpenSlide
    except ImportError as error:
        raise SencaError(
            f"cannot be opened: a whole slide needs openslide ({brief(error)}); pip install openslide-python "
            "openslide-bin"
        ) from None
    try:
        if OpenSlide.detect_format(path) in (None, _GENERIC):
            return None
        slide = OpenSlide(path)
    except Exception as error:  # noqa: BLE001 - OpenSlide's own errors and those of what it reads with
        raise SencaError(
            f"cannot be opened as an image ({brief(error)}); expected a whole slide with all its files; copy "
            "it again"
        ) from None
    try:
        check_declared(slide.dimensions, max_pixels)
        return SlidePicture(slide)
    except SencaError:
        slide.close()
        raise

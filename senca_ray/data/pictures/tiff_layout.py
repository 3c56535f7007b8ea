"""Where the pixels of a TIFF are: its first image series, its levels, its scale, and whether it is whole."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senca_ray.data.pictures.picture import brief
from senca_ray.data.pictures.pillow import WHOLE_PIXELS, check_declared
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage, TiffPageSeries

SEPARATE = 2
"""Planar configuration with a plane for each sample."""
IMAGE_CODECS = {7, 33003, 33004, 33005, 34712, 34927, 50001}
"""Compressions whose every tile is an image file of its own: JPEG, JPEG 2000, WebP."""
_JPEG = 7
_CODECS = {1, 5, 8, 32773, 32946, 34926, 50000} | IMAGE_CODECS
"""All that is read by window: besides those none, LZW, deflate, PackBits and Zstandard."""
_PILLOW_CODECS = {1, 5, 7, 8, 32773, 32946}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _YCBCR = 0, 1, 2, 6
_PREMULTIPLIED, _ALPHA = 1, 2
_LARGEST_TILE = 64 * 2**20
"""Bytes of a decoded tile or strip: what is cut into larger ones is no better than not cut at all."""
_MAPPED_TILE = 2**20
"""Bytes of an uncompressed tile or strip above which only the pixels needed are read of it."""
_COARSEST_UM = 20.0
"""A resolution coarser than this is the 72 or 300 dots an inch of a screen or printer, not a microscope's."""
_MICROMETRES = {1: None, 2: 25_400.0, 3: 10_000.0}
"""Resolution unit of TIFF: none, inch, centimetre."""


@dataclass(frozen=True)
class Level:
    """One resolution: a page with all samples, or three pages with one each."""

    page: TiffPage
    """How every page is laid out."""
    pages: tuple[TiffPage | TiffFrame, ...]
    """Where their tiles are."""
    mapped: bool
    """Whether the pixels lie in the file in one piece, uncompressed, so that tiles do not matter."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.page.imagewidth, self.page.imagelength

    @property
    def samples(self) -> int:
        """Colours, and opacity where there is one."""
        return max(len(self.pages), self.page.samplesperpixel)

    @property
    def separate(self) -> bool:
        """Whether a page holds one plane after the other."""
        return self.page.planarconfig == SEPARATE and self.page.samplesperpixel > 1


@dataclass(frozen=True)
class Layout:
    """A TIFF that is read by window."""

    levels: tuple[Level, ...]
    um_per_pixel: float | None
    inverted: bool
    """Whether 0 is white."""
    alpha: bool
    """Whether the sample after the colours is their opacity."""
    premultiplied: bool
    """Whether the colours are multiplied with it already."""


@dataclass(frozen=True)
class Plain:
    """A TIFF with one page that is decoded from its start: small, or neither in tiles nor in short strips."""

    size: tuple[int, int]
    um_per_pixel: float | None


def look(path: Path, max_pixels: int) -> tuple[TiffFile, Layout | Plain]:
    """Open a TIFF and find its image; the file stays open. Raises SencaError."""
    from tifffile import TiffFile

    # What it would say on standard error is said in our words, or does not matter to the image.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    tif = None
    try:
        # Never another file that this one names.
        tif = TiffFile(path, _multifile=False)
        return tif, _layout(tif, path, max_pixels)
    except SencaError:
        if tif is not None:
            tif.close()
        raise
    except Exception as error:  # noqa: BLE001 - damaged tags raise all kinds of errors
        if tif is not None:
            tif.close()
        raise SencaError(
            f"cannot be opened as an image ({brief(error)}); expected a whole TIFF; copy it again"
        ) from None


def tile_shape(page: TiffPage) -> tuple[int, int]:
    """(height, width) of a page's tiles, or of its strips."""
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def tile_bytes(page: TiffPage) -> int:
    """Bytes of a decoded tile or strip of a page."""
    height, width = tile_shape(page)
    samples = 1 if page.planarconfig == SEPARATE else page.samplesperpixel
    return height * width * samples * item_size(page)


def check_whole(pages: list[TiffPage | TiffFrame], file_size: int) -> None:
    """Raise SencaError where tiles lie beyond the end of the file: it is cut off."""
    offsets = np.concatenate([np.asarray(p.dataoffsets, dtype=np.uint64) for p in pages])
    counts = np.concatenate([np.asarray(p.databytecounts, dtype=np.uint64) for p in pages])
    beyond = int((offsets + counts > file_size).sum())
    if len(offsets) == 0 or beyond:
        raise SencaError(
            f"the image is cut off: {beyond:,} of its {len(offsets):,} tiles or strips lie beyond the end of "
            "the file; expected a whole TIFF; copy it again"
        )


def _layout(tif: TiffFile, path: Path, max_pixels: int) -> Layout | Plain:
    series = _image_series(tif)
    page = series.keyframe
    size = (page.imagewidth, page.imagelength)
    check_declared(size, max_pixels)
    scale = _um_per_pixel(tif, series)
    levels = tuple(_level(s, path) for s in _pyramid(series))
    check_whole([p for level in levels for p in level.pages], tif.filehandle.size)
    compression = int(page.compression)
    single = len(levels) == len(levels[0].pages) == 1
    one_plane = not levels[0].separate
    small = size[0] * size[1] <= WHOLE_PIXELS
    of_pillow = compression in _PILLOW_CODECS and (page.bitspersample in (1, 2, 4, 8))
    if single and one_plane and small and of_pillow and series.kind != "ome":
        return Plain(size, scale)
    windowed = (
        compression in _CODECS
        and (page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB) or _is_jpeg_colour(page))
        and page.dtype in (np.uint8, np.uint16)
        and page.bitspersample in (8, 16)
        and all(x.mapped or tile_bytes(x.page) <= _LARGEST_TILE for x in levels)
    )
    if windowed:
        extra = int(page.extrasamples[0]) if page.extrasamples else 0
        return Layout(
            levels,
            scale,
            inverted=page.photometric == _WHITE_IS_ZERO,
            alpha=extra in (_PREMULTIPLIED, _ALPHA),
            premultiplied=extra == _PREMULTIPLIED,
        )
    if compression not in _CODECS:
        raise SencaError(
            f"TIFF with {_compression_name(page)} compression found; expected none, LZW, deflate, PackBits, "
            "Zstandard, JPEG, JPEG 2000 or WebP (of the package imagecodecs); save it with one of these"
        )
    if single and one_plane and page.bitspersample in (1, 2, 4, 8, 16) and not page.is_tiled:
        return Plain(size, scale)
    height, width = tile_shape(page)
    raise SencaError(
        f"TIFF of {page.dtype} pixels, photometric {getattr(page.photometric, 'name', page.photometric)}, "
        f"tiles of {width} x {height}; expected RGB or grey of 8 or 16 bits, tiles below "
        f"{_LARGEST_TILE // 2**20} MB; save it as a tiled RGB TIFF"
    )


def _image_series(tif: TiffFile) -> TiffPageSeries:
    """The first series that is an image: RGB, or grey; labels and overviews of slides come after it."""
    for series in tif.series:
        axes, shape = series.axes, series.shape
        samples = 1 if axes == "YX" else shape[axes.find("S") if "S" in axes else axes.find("C")]
        if (axes in ("YX", "YXS", "SYX") and samples <= 4) or (axes == "CYX" and samples == 3):
            return series
    some = list(tif.series)[:3]
    found = ", ".join(f"{s.axes} {' x '.join(map(str, s.shape))}" for s in some) or "nothing"
    raise SencaError(
        f"the TIFF holds {found}; expected an image (axes YX, YXS, SYX or CYX of 3); export it as RGB"
    )


def _pyramid(series: TiffPageSeries) -> list[TiffPageSeries]:
    """Levels with the axes of the first, smaller and smaller; what follows otherwise is no level."""
    levels = [series]
    for level in series.levels[1:]:
        before, now = levels[-1].keyframe, level.keyframe
        if level.axes != series.axes or now.imagewidth >= before.imagewidth or now.dtype != before.dtype:
            break
        levels.append(level)
    return levels


def _level(series: TiffPageSeries, path: Path) -> Level:
    page = series.keyframe
    pages: list[Any] = list(series) if series.axes == "CYX" else [page]
    if any(p is None for p in pages):
        raise SencaError("planes of the image are missing in the TIFF; expected all; export it as one file")
    large = tile_bytes(page) > _MAPPED_TILE
    mapped = large and all(p.is_memmappable for p in pages) and path.is_file()
    return Level(page, tuple(pages), mapped)


def _is_jpeg_colour(page: TiffPage) -> bool:
    """The JPEG decoder turns YCbCr into RGB; no other does."""
    return page.photometric == _YCBCR and page.compression == _JPEG


def item_size(page: TiffPage) -> int:
    """Bytes of a sample."""
    return 1 if page.dtype is None else page.dtype.itemsize


def _compression_name(page: TiffPage) -> str:
    return getattr(page.compression, "name", str(page.compression))


def _um_per_pixel(tif: TiffFile, series: TiffPageSeries) -> float | None:
    """From OME's PhysicalSizeX, else from the resolution tags."""
    if series.kind == "ome":
        return _ome_scale(tif, series)
    tags = series.keyframe.tags
    pixels, per = tags.valueof("XResolution") or (0, 1)
    unit = _MICROMETRES.get(int(tags.valueof("ResolutionUnit") or 2))
    if tif.is_imagej and (tif.imagej_metadata or {}).get("unit") in ("micron", "um", "µm", "\\u00B5m"):
        unit = 1.0
    if not pixels or not per or unit is None:
        return None
    scale = unit * per / pixels
    return scale if 0 < scale <= _COARSEST_UM else None


def _ome_scale(tif: TiffFile, series: TiffPageSeries) -> float | None:
    from tifffile import xml2dict

    units = {"µm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
    images = xml2dict(tif.ome_metadata or "<OME/>").get("OME", {}).get("Image", [])
    images = images if isinstance(images, list) else [images]
    index = list(tif.series).index(series)
    pixels = images[index].get("Pixels", {}) if index < len(images) else {}
    size, unit = pixels.get("PhysicalSizeX"), units.get(str(pixels.get("PhysicalSizeXUnit", "µm")))
    return float(size) * unit if size and unit and float(size) > 0 else None

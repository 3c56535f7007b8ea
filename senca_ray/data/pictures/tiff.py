"""TIFF by window: tiled and pyramidal TIFF and OME-TIFF, of which only the tiles needed are decoded."""

from __future__ import annotations

import io
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from senca_ray.data.pictures.picture import GLASS, Picture
from senca_ray.data.pictures.tiff_layout import (
    IMAGE_CODECS,
    Layout,
    Level,
    Plain,
    item_size,
    look,
    tile_bytes,
    tile_shape,
)
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffFrame, TiffPage

_KEPT_BYTES = 128 * 2**20
"""Decoded tiles kept for the next windows: a band of 1,000 rows of a picture 40,000 pixels wide."""
_LARGEST_RATIO = 2
"""Encoded bytes a decoded byte of a tile: no codec makes a tile larger than this."""


class TiffPicture(Picture):
    """The first image series of a TIFF, read tile by tile (or strip by strip)."""

    def __init__(self, tif: TiffFile, layout: Layout) -> None:
        self._tif = tif
        self._layout = layout
        self._kept: OrderedDict[tuple[int, int, int], np.ndarray | None] = OrderedDict()
        self._kept_bytes = 0
        self.expected = "TIFF"
        self.levels = tuple(level.size for level in layout.levels)
        self.um_per_pixel = layout.um_per_pixel

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        """RGB pixels of a box of a level."""
        where = self._layout.levels[level]
        samples = np.empty((height, width, where.samples), dtype=np.uint8)
        for number, page in enumerate(where.pages):
            own = samples[..., number : number + 1] if len(where.pages) > 1 else samples
            if where.mapped:
                own[:] = self._mapped(where, page, left, top, width, height)
            else:
                self._decode_into(own, (level, number), left, top)
        return _rgb(samples, self._layout)

    def close(self) -> None:
        """Close the file and forget its tiles."""
        self._tif.close()
        self._kept.clear()

    def _mapped(
        self, level: Level, page: TiffPage | TiffFrame, left: int, top: int, width: int, height: int
    ) -> np.ndarray:
        """A box of pixels that lie in the file as they are; mapped anew each time, so that none stay."""
        shape = level.page.shape
        pixels = np.memmap(
            self._tif.filehandle.path,
            dtype=f"{self._tif.byteorder}u{item_size(level.page)}",
            mode="r",
            offset=page.dataoffsets[0],
            shape=shape,
        )
        rows, columns = slice(top, top + height), slice(left, left + width)
        if level.separate:
            return _eight_bits(np.moveaxis(pixels[:, rows, columns], 0, -1))
        return _eight_bits(pixels[rows, columns]).reshape(height, width, -1)

    def _decode_into(self, samples: np.ndarray, key: tuple[int, int], left: int, top: int) -> None:
        """Fill (height, width, samples) from the tiles it touches; `key` is (level, number of the page)."""
        level = self._layout.levels[key[0]]
        height, width = samples.shape[:2]
        tile_height, tile_width = tile_shape(level.page)
        across = -(-level.size[0] // tile_width)
        a_plane = across * -(-level.size[1] // tile_height)
        for plane in range(level.page.samplesperpixel if level.separate else 1):
            into = samples[..., plane : plane + 1] if level.separate else samples
            for row in range(top // tile_height, (top + height - 1) // tile_height + 1):
                for column in range(left // tile_width, (left + width - 1) // tile_width + 1):
                    tile = self._tile((*key, plane * a_plane + row * across + column))
                    y, x = row * tile_height, column * tile_width
                    y0, x0 = max(y, top), max(x, left)
                    y1, x1 = min(y + tile_height, top + height), min(x + tile_width, left + width)
                    target = into[y0 - top : y1 - top, x0 - left : x1 - left]
                    if tile is None:  # a tile without data: nothing was scanned there
                        target[:] = 0 if self._layout.inverted else GLASS[0]
                    else:
                        target[:] = tile[y0 - y : y1 - y, x0 - x : x1 - x]

    def _tile(self, place: tuple[int, int, int]) -> np.ndarray | None:
        """A decoded tile (height, width, samples) uint8; `place` is (level, number of the page, tile)."""
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        tile = self._kept[place] = self._decode(*place)
        self._kept_bytes += 0 if tile is None else tile.nbytes
        while self._kept_bytes > _KEPT_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= 0 if oldest is None else oldest.nbytes
        return tile

    def _decode(self, level: int, number: int, index: int) -> np.ndarray | None:
        where = self._layout.levels[level]
        page, part = where.page, where.pages[number]
        offset, count = part.dataoffsets[index], part.databytecounts[index]
        if offset == 0 or count == 0:
            return None
        decoded_bytes = tile_bytes(page)
        if count > _LARGEST_RATIO * decoded_bytes + 2**16:
            raise SencaError(
                f"a tile of {decoded_bytes:,} bytes is stored in {count:,}; expected less; copy it again"
            )
        self._tif.filehandle.seek(offset)
        data = self._tif.filehandle.read(count)
        if page.compression in IMAGE_CODECS:
            _check_inner_size(data, page)
        decoded = page.decode(data, index, jpegtables=part.jpegtables)[0]
        return None if decoded is None else _eight_bits(decoded[0])


def open_tiff(path: Path, max_pixels: int) -> TiffPicture | Plain:
    """Open a TIFF by window, or say what is known of one that has to be read otherwise.

    Raises SencaError when it is damaged, too large or has no image that is RGB or grey.
    """
    tif, layout = look(path, max_pixels)
    if isinstance(layout, Plain):
        tif.close()
        return layout
    return TiffPicture(tif, layout)


def _check_inner_size(data: bytes, page: TiffPage) -> None:
    """A tile that is a JPEG, JPEG 2000 or WebP image declares a size of its own, and decoders trust it."""
    height, width = tile_shape(page)
    with Image.open(io.BytesIO(data), formats=("JPEG", "JPEG2000", "WEBP")) as image:
        if image.width > width or image.height > height:
            raise SencaError(
                f"a tile of {width} x {height} pixels holds {image.width} x {image.height}; the TIFF is "
                "damaged: copy it again"
            )


def _eight_bits(samples: np.ndarray) -> np.ndarray:
    """uint8 of uint8 or of uint16, whose full range is 65,535."""
    return samples if samples.dtype.itemsize == 1 else (samples // 257).astype(np.uint8)


def _rgb(samples: np.ndarray, layout: Layout) -> Image.Image:
    """RGB of (height, width, samples): grey or RGB, with or without alpha, which shows the glass behind."""
    colours = 3 if samples.shape[2] >= 3 else 1
    colour = samples[..., :colours]
    if layout.inverted:
        colour = 255 - colour
    if layout.alpha:
        alpha = samples[..., colours : colours + 1].astype(np.uint16)
        own = colour.astype(np.uint16) * (255 if layout.premultiplied else alpha)
        colour = np.minimum((own + GLASS[0] * (255 - alpha) + 127) // 255, 255).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(colour, (*colour.shape[:2], 3))))

"""A picture is read by window, from the level that suits, whatever is behind it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import numpy as np
from PIL import Image

from senca_ray.errors import SencaError

GLASS = (255, 255, 255)
"""Colour of what lies outside the image: empty glass."""

_BAND_PIXELS = 16_000_000
"""Pixels read together where a large box is made small: 48 MB."""
_GAP = 2.0
"""A box is averaged in whole steps until it is this many times its final size, then interpolated."""
_ROUNDING = 1.02
"""A level said to be half as wide may be a little less: its sides are whole pixels."""
_PROBES = 3
"""Damage is looked for in this many places along each side."""

Box = tuple[int, int, int, int]
"""Left, top, width and height in pixels."""


class Picture(ABC):
    """An image of any size; a context manager. Not for several threads at once.

    Memory is bounded by the windows asked for, not by the picture.
    """

    levels: tuple[tuple[int, int], ...]
    """(width, height) of each resolution, full first, smaller and smaller."""
    um_per_pixel: float | None = None
    """Micrometres a full-resolution pixel, where the file tells."""
    in_memory: bool = False
    """Whether any window costs the same, wherever the one before it was."""
    expected: str = "JPEG, PNG or TIFF"
    """What a whole file of this kind is, for messages."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in full-resolution pixels."""
        return self.levels[0]

    @abstractmethod
    def read(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        """RGB pixels of a box that lies inside `levels[level]`, in that level's pixels; raises anything."""

    def close(self) -> None:  # noqa: B027 - a picture in memory has nothing to close
        """Let go of the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def window(self, left: int, top: int, width: int, height: int, out: tuple[int, int]) -> np.ndarray:
        """Return a box of full-resolution pixels, resized to `out` (width, height).

        Shapes: returns (out height, out width, 3) uint8; what lies outside the picture is glass. Raises
        SencaError where the file is damaged.
        """
        return np.array(self.resized((left, top, width, height), out, Image.Resampling.BILINEAR))

    def resized(self, box: Box, out: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
        """As `window`, with a filter of Pillow's.

        From full resolution the numbers are those of Pillow's `resize(out, resampling, reducing_gap=2.0)` of
        the box; but averaging goes band by band, so that a large box is never in memory whole.
        """
        left, top, width, height = box
        if min(width, height, *out) < 1:
            raise ValueError(f"box {box} to {out}: expected one pixel or more")
        level = self._level(min(width / out[0], height / out[1]))
        across, down = (a / b for a, b in zip(self.levels[level], self.size, strict=True))
        # Exact at full resolution; at a smaller one the box has fractions of pixels, which Pillow handles.
        x0, y0, x1, y1 = left * across, top * down, (left + width) * across, (top + height) * down
        first_x, first_y = math.floor(x0), math.floor(y0)
        last_x, last_y = math.ceil(x1), math.ceil(y1)
        by_x = int((x1 - x0) / out[0] / _GAP) or 1
        by_y = int((y1 - y0) / out[1] / _GAP) or 1
        reduced = Image.new("RGB", (-(-(last_x - first_x) // by_x), -(-(last_y - first_y) // by_y)))
        rows = max(1, _BAND_PIXELS // ((last_x - first_x) * by_y)) * by_y
        with self.decoding():
            for y in range(first_y, last_y, rows):
                band = self._padded(level, first_x, y, last_x, min(y + rows, last_y))
                if by_x > 1 or by_y > 1:
                    band = band.reduce((by_x, by_y))
                reduced.paste(band, (0, (y - first_y) // by_y))
        inner = (
            (x0 - first_x) / by_x,
            (y0 - first_y) / by_y,
            min((x1 - first_x) / by_x, reduced.width),
            min((y1 - first_y) / by_y, reduced.height),
        )
        return reduced.resize(out, resampling, box=inner)

    def check(self) -> None:
        """Find damage without decoding a large picture whole; raises SencaError."""
        for level, (width, height) in enumerate(self.levels):
            for row in range(_PROBES):
                for column in range(_PROBES):
                    place = (column * (width - 1) // (_PROBES - 1), row * (height - 1) // (_PROBES - 1))
                    with self.decoding():
                        self.read(level, *place, 1, 1)

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Say in words whatever a decoder raises on damaged bytes."""
        try:
            yield
        except SencaError:
            raise
        except Exception as error:  # noqa: BLE001 - decoders raise all kinds of errors
            width, height = self.size
            raise SencaError(
                f"the image of {width} x {height} pixels cannot be decoded ({brief(error)}); expected a "
                f"whole {self.expected}; copy it again"
            ) from None

    def _level(self, scale: float) -> int:
        """The smallest level that still has a pixel for every one asked for."""
        enough = [i for i, (width, _) in enumerate(self.levels) if self.size[0] / width <= scale * _ROUNDING]
        return max(enough, default=0)

    def _padded(self, level: int, x0: int, y0: int, x1: int, y1: int) -> Image.Image:
        """The box of a level, glass where it leaves the picture."""
        width, height = self.levels[level]
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if (left, top, right, bottom) == (x0, y0, x1, y1):
            return self.read(level, left, top, right - left, bottom - top)
        whole = Image.new("RGB", (x1 - x0, y1 - y0), GLASS)
        if left < right and top < bottom:
            whole.paste(self.read(level, left, top, right - left, bottom - top), (left - x0, top - y0))
        return whole


def brief(error: Exception) -> str:
    """The first line of what a library says, or the kind of error where it says nothing."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]


def over_glass(image: Image.Image) -> Image.Image:
    """RGB of an image in any 8-bit mode; what is transparent shows the glass behind it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        behind = Image.new("RGBA", image.size, (*GLASS, 255))
        return Image.alpha_composite(behind, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")

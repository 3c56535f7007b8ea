"""Large images that can only be decoded from their start: decoded once, into a tiled file on disk."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from senca_ray.data.pictures.picture import Picture
from senca_ray.data.pictures.tiff import TiffPicture, open_tiff
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    import pyvips

_TILE = 256
_JPEG_END, _PNG_END = b"\xff\xd9", b"IEND\xae\x42\x60\x82"
_END_BYTES = 65_536
"""How far before the end of the file its last mark is looked for: some programs write notes behind it."""


class ScratchPicture(Picture):
    """A large JPEG, PNG or untiled TIFF; its first window decodes it, in a stream, to a file of raw tiles.

    The file takes 3 bytes a pixel in the folder for temporary files and goes when the picture is closed.
    """

    def __init__(
        self, path: Path, kind: str, size: tuple[int, int], um_per_pixel: float | None = None
    ) -> None:
        """`kind` is JPEG, PNG or TIFF. Raises SencaError where the end of the file is missing."""
        self._path = path
        self._kind = kind
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._tiles: TiffPicture | None = None
        self.expected = kind
        self.levels = (size,)
        self.um_per_pixel = um_per_pixel
        self.check()

    @classmethod
    def of_image(cls, path: Path, image: Image.Image) -> ScratchPicture:
        """Of an opened JPEG or PNG, which is closed; raises SencaError where it cannot be streamed."""
        kind, size = str(image.format), image.size
        in_passes = bool(image.info.get("progressive") or image.info.get("interlace"))
        image.close()
        if in_passes:
            raise SencaError(
                f"{'progressive' if kind == 'JPEG' else 'interlaced'} {kind} of {size[0]} x {size[1]} pixels "
                "found, which can only be decoded whole in memory; expected one saved in a single pass; save "
                "it so, or as a tiled TIFF"
            )
        return cls(path, kind, size)

    def read(self, level: int, left: int, top: int, width: int, height: int) -> Image.Image:
        """RGB pixels of a box."""
        if self._tiles is None:
            self._tiles = self._decode()
        return self._tiles.read(level, left, top, width, height)

    def check(self) -> None:
        """Look whether the file has an end; what is wrong in between shows in decoding."""
        end = {"JPEG": _JPEG_END, "PNG": _PNG_END}.get(self._kind)
        width, height = self.size
        with self._path.open("rb") as file:
            file.seek(max(0, self._path.stat().st_size - _END_BYTES))
            if end is not None and end not in file.read():
                raise SencaError(
                    f"the image of {width} x {height} pixels is cut off: the {self._kind} has no end; "
                    "expected a whole one; copy it again"
                )

    def close(self) -> None:
        """Remove the file of tiles."""
        if self._tiles is not None:
            self._tiles.close()
            self._tiles = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _decode(self) -> TiffPicture:
        width, height = self.size
        self._folder = tempfile.TemporaryDirectory(prefix="senca-image-")
        needed, free = 3.2 * width * height, shutil.disk_usage(self._folder.name).free
        if needed > free:
            raise SencaError(
                f"the {self._kind} of {width} x {height} pixels needs {needed / 1e9:.1f} GB for temporary "
                f"files and {free / 1e9:.1f} GB are free; set TMPDIR to a folder with more, or save it as a "
                "tiled TIFF"
            )
        tiles = Path(self._folder.name) / "tiles.tif"
        _glass_behind(_stream(self._path, self._kind)).tiffsave(
            str(tiles), tile=True, tile_width=_TILE, tile_height=_TILE, bigtiff=True, compression="none"
        )
        opened = open_tiff(tiles, width * height)
        if not isinstance(opened, TiffPicture) or opened.size != self.size:
            raise SencaError(
                f"{self._kind} of {width} x {height} pixels expected; other ones decoded; save it anew"
            )
        return opened


def _stream(path: Path, kind: str) -> pyvips.Image:
    import pyvips

    loaders: dict[str, Any] = {
        "JPEG": pyvips.Image.jpegload,
        "PNG": pyvips.Image.pngload,
        "TIFF": pyvips.Image.tiffload,
    }
    # The default passes over damage and cut-off ends.
    image: pyvips.Image = loaders[kind](str(path), access="sequential", fail_on="error")
    return image


def _glass_behind(image: pyvips.Image) -> pyvips.Image:
    """8-bit RGB of whatever colours there are."""
    image = image.colourspace("srgb")
    return (image.flatten(background=255) if image.hasalpha() else image).cast("uchar")

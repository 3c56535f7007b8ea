"""Images of every kind that pictures are read from, all with the same pixels, and damaged ones."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

WIDTH, HEIGHT = 301, 203
TILE = (64, 64)
APERIO = "Aperio Image Library v11.2.1\r\n301x203 (64x64) JPEG/RGB Q=95|AppMag = 20|MPP = 0.4990"


def pixels(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(height, width, 3) uint8 in which no two places look alike."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 251, y % 241, (3 * x + 5 * y) % 239], axis=-1).astype(np.uint8)


def planes() -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(pixels(), 2, 0))


def pyramid(path: Path, array: np.ndarray, axes: str = "YXS", ome: bool = True, **options: object) -> None:
    """Three levels, in sub-images of the first page."""
    steps = [slice(None, None, s) for s in (1, 2, 4)]
    with tifffile.TiffWriter(path, ome=ome) as writer:
        metadata = {"axes": axes, "PhysicalSizeX": 500.0, "PhysicalSizeXUnit": "nm"}
        for number, step in enumerate(steps):
            level = array[step, step] if axes == "YXS" else array[:, step, step]
            extra = {"subifds": 2, "metadata": metadata} if number == 0 else {"subfiletype": 1}
            writer.write(level, photometric="rgb", tile=TILE, **extra, **options)  # type: ignore[arg-type]
        writer.write(pixels(40, 30), photometric="rgb", metadata={"axes": "YXS", "Name": "label"})


def pages(path: Path, **options: object) -> None:
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2, 4):
            level = np.ascontiguousarray(pixels()[::step, ::step])
            writer.write(level, tile=TILE, photometric="rgb", metadata=None, **options)  # type: ignore[arg-type]


def cyx(path: Path, **options: object) -> None:
    metadata = {"axes": "CYX"}
    tifffile.imwrite(path, planes(), ome=True, photometric="minisblack", metadata=metadata, **options)  # type: ignore[arg-type]


def tiff(path: Path, array: np.ndarray | None = None, **options: object) -> None:
    given = {"photometric": "rgb", "metadata": None} | options
    tifffile.imwrite(path, pixels() if array is None else array, **given)  # type: ignore[arg-type]


def with_alpha(path: Path) -> None:
    opaque = np.full((HEIGHT, WIDTH, 1), 255, dtype=np.uint8)
    tiff(
        path,
        np.concatenate([pixels(), opaque], axis=2),
        tile=TILE,
        compression="lzw",
        extrasamples=["unassalpha"],
    )


LOSSLESS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "png": (".png", lambda p: Image.fromarray(pixels()).save(p)),
    "png-of-two-alphas": (".png", lambda p: Image.fromarray(pixels()).convert("RGBA").save(p)),
    "plain-tiff": (".tif", tiff),
    "big-endian-16-bit": (".tif", lambda p: tiff(p, pixels().astype(np.uint16) * 257, byteorder=">")),
    "bigtiff-tiles": (".tif", lambda p: tiff(p, tile=TILE, compression="zstd", bigtiff=True)),
    "pages": (".tif", lambda p: pages(p, compression="deflate", predictor=True)),
    "strips-of-planes": (".tif", lambda p: tiff(p, planes(), planarconfig="separate", rowsperstrip=7)),
    "alpha": (".tif", with_alpha),
    "jpeg-2000": (".tif", lambda p: tiff(p, tile=TILE, compression="jpeg2000")),
    "ome": (".ome.tif", lambda p: pyramid(p, pixels(), compression="lzw")),
    "ome-16-bit": (".ome.tif", lambda p: pyramid(p, pixels().astype(np.uint16) * 257, compression="deflate")),
    "ome-syx": (".ome.tif", lambda p: pyramid(p, planes(), "SYX", planarconfig="separate")),
    "ome-cyx": (".ome.tiff", cyx),
    "ome-cyx-tiles": (".ome.tiff", lambda p: cyx(p, tile=TILE, compression="lzw")),
}
"""Every kind whose pixels come back as they were: suffix, and what writes it."""


def slide(path: Path) -> None:
    """A simulated slide as Aperio's scanners write it; its JPEG tiles lose a little."""
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 4):
            writer.write(
                smooth()[::step, ::step],
                tile=TILE,
                compression="jpeg",
                compressionargs={"level": 98},
                photometric="rgb",
                description=APERIO,
                metadata=None,
            )


def smooth() -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8 that JPEG hardly changes."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x // 2, y, (x + y) // 3], axis=-1).astype(np.uint8)


def declared_png(path: Path, width: int, height: int, interlaced: bool = False) -> None:
    """A PNG of a few bytes that declares any size."""
    chunk = b"IHDR" + struct.pack(">II", width, height) + bytes([8, 2, 0, 0, interlaced])
    end = b"IEND"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + b"\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e"
        + bytes(4)
        + end
        + struct.pack(">I", zlib.crc32(end))
    )


def cut(path: Path, share: float) -> None:
    """Leave only the first part of a file."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])


def set_tag(path: Path, name: str, value: int) -> None:
    """Overwrite a tag of a TIFF's first page."""
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages.first.tags[name].overwrite(value)

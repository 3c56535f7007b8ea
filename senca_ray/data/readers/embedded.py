"""Images that lie inside another file, kept as picture files of their own in the cache."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from senca_ray.errors import SencaError
from senca_ray.files import cache, write_whole

_PIECE = 1 << 20
TILE = 512
"""Side of a tile of the TIFF files written here, in pixels."""


def keep_png(pixels: np.ndarray) -> Path:
    """Keep an image (H, W, 3) uint8 as a PNG; returns the file, named by its content."""
    from PIL import Image

    pixels = np.ascontiguousarray(pixels)
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return _keep(
        f"{digest}.png",
        lambda path: Image.fromarray(pixels).save(path, format="PNG", compress_level=1),
    )


def keep_unzipped(path: Path, max_pixels: int) -> Path:
    """Keep what the gzip file `path` (NAME.jpg.gz) holds; returns the file, named by the gzip file's content.

    Raises SencaError when it is damaged or larger than an image of `max_pixels` pixels can be.
    """
    limit = 4 * max_pixels + _PIECE
    suffix = Path(path.stem).suffix.lower()

    def write(target: Path) -> None:
        written = 0
        with target.open("wb") as out:
            for piece in _unzipped(path):
                written += len(piece)
                if written > limit:
                    raise SencaError(
                        f"holds more than {limit:,} bytes uncompressed; expected an image of at most "
                        f"{max_pixels:,} pixels; unpack it and look, or raise max_image_pixels"
                    )
                out.write(piece)

    return _keep(f"{_digest_of(path)}{suffix}", write)


def _unzipped(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) as source:
            while piece := source.read(_PIECE):
                yield piece
    except (EOFError, zlib.error, OSError) as error:
        raise SencaError(
            f"not a complete gzip file ({error}); expected a gzip-compressed image; copy the file again"
        ) from None


def keep_tiles(digest: str, height: int, width: int, band: Callable[[int, int], np.ndarray]) -> Path:
    """Keep a large image as a tiled TIFF; `band(top, bottom)` gives its rows (rows, W, 3) uint8.

    `digest` tells the image's content. No more than TILE rows are in memory.
    """
    import tifffile

    def tiles() -> Iterator[np.ndarray]:
        for top in range(0, height, TILE):
            rows = band(top, min(top + TILE, height))
            for left in range(0, width, TILE):
                yield np.ascontiguousarray(rows[:, left : left + TILE])

    def write(path: Path) -> None:
        tifffile.imwrite(
            path,
            tiles(),
            shape=(height, width, 3),
            dtype=np.uint8,
            photometric="rgb",
            tile=(TILE, TILE),
            compression="zlib",
            metadata=None,
        )

    return _keep(f"{digest}.tif", write)


def as_rgb(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of an image (H, W) or (H, W, 1, 3 or 4); fractions count as shares of 255.

    Raises SencaError for another number of channels or type of pixel.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise SencaError(
            f"the image is an array of {' x '.join(map(str, pixels.shape))}; expected height x width x 3 "
            "(red, green, blue)"
        )
    pixels = np.broadcast_to(pixels[:, :, :3], (*pixels.shape[:2], 3))
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.uint16:
        return (pixels // 257).astype(np.uint8)
    if pixels.dtype.kind == "f" and np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1:
        return np.round(pixels * 255).astype(np.uint8)
    raise SencaError(
        f"the image holds pixels of type {pixels.dtype}; expected uint8 from 0 to 255, or fractions from 0 "
        "to 1"
    )


def folder_digest(folder: Path) -> str:
    """Hex digest of all files in a folder, with their names."""
    inside = sorted(p for p in folder.rglob("*") if p.is_file())
    listed = "".join(f"{p.relative_to(folder).as_posix()}\n{_digest_of(p)}\n" for p in inside)
    return hashlib.sha256(listed.encode()).hexdigest()


def _keep(name: str, write: Callable[[Path], None]) -> Path:
    folder = cache() / "embedded-images"
    path = folder / name
    if not path.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SencaError(
                f"{folder}: cannot be made ({error}); set SENCA_CACHE to another folder"
            ) from None
        write_whole(path, write)
    return path


def _digest_of(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise SencaError(
            f"cannot be read ({error.strerror or error}); check the file's permissions"
        ) from None
    return digest.hexdigest()

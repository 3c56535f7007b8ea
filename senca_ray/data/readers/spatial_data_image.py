"""Where the spots of a SpatialData store are in its image, and that image as a picture file."""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from senca_ray.data.readers import embedded
from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quantity, quote, quote_some
from senca_ray.errors import SencaError

_GLOBAL = "global"
"""Spatialdata's own name of the coordinate system that elements share unless told otherwise."""
_PIECE = 1 << 30
"""Most bytes of a piece of an image: one is in memory as a whole."""


@dataclass(frozen=True)
class Placed:
    """N spots in the frame of an image."""

    xy: np.ndarray | None
    """(N, 2) positions in the image's pixels, without one in those of the region; None where none is told."""
    name: str | None
    """The image's name in the store."""
    image: Any | None
    """The image itself (channels, H, W), not read yet; None without one."""


@dataclass(frozen=True)
class Kept:
    """An image as a picture file."""

    path: Path
    size: tuple[int, int]
    """(width, height) in pixels."""


def placed(findings: Findings, path: Path, region: str, instances: np.ndarray | None) -> Placed:
    """Where the instances (N,) of a region are; raises SencaError for those that are nowhere."""
    from spatialdata.transformations import get_transformation

    store = _open(path)
    images = {name: _largest(store.images[name]) for name in sorted(store.images)}
    shapes = store.shapes.get(region)
    if shapes is None:
        name = next(iter(images), None)
        return Placed(None, name, images.get(name) if name else None)
    if instances is None:
        raise SencaError(
            "no column in obs names the shapes; expected the table's instance_key; write it again"
        )
    rows = shapes.index.get_indexer(instances)
    if (rows < 0).any():
        missing = [str(i) for i in instances[rows < 0]]
        raise SencaError(
            f"{quantity(len(missing), 'spot')} without a shape in {quote(region)}: {quote_some(missing)}; "
            "expected a shape for every spot; write them, or remove the spots"
        )
    centres = shapes.geometry.centroid
    xy = np.column_stack([centres.x, centres.y])[rows].astype(np.float64)
    if not np.isfinite(xy).all():
        raise SencaError(f"shapes of {quote(region)} without a position; expected x and y; write them")
    own = get_transformation(shapes, get_all=True)
    choices = []
    for name, image in images.items():
        its = get_transformation(image, get_all=True)
        choices += [(frame == _GLOBAL, name, frame, its[frame]) for frame in sorted(own.keys() & its.keys())]
    if not choices:
        return Placed(xy, None, None)
    _, name, frame, transformation = min(choices, key=lambda choice: choice[:3])
    to_frame, image_to_frame = (
        np.asarray(t.to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)
        for t in (own[frame], transformation)
    )
    try:
        matrix = np.linalg.solve(image_to_frame, to_frame)
    except np.linalg.LinAlgError:
        raise SencaError(
            f"the transformation of the image {quote(name)} to {quote(frame)} has no inverse; expected a "
            "scale, shift or turn; write it again"
        ) from None
    return Placed(xy @ matrix[:2, :2].T + matrix[:2, 2], name, images[name])


def keep_image(findings: Findings, path: Path, spots: Placed, max_pixels: int) -> Kept | None:
    """Write the image of placed spots into the cache, some rows at a time.

    None without one, and with a note for one of other channels. Raises SencaError for an image
    of more than `max_pixels` pixels, and for a damaged one.
    """
    image, name = spots.image, spots.name or ""
    if image is None:
        return None
    channels, height, width = image.shape
    if channels not in (1, 3, 4):
        findings.notes.append(f"image {quote(name)} left out: {channels} channels, not red, green and blue")
        return None
    if height * width > max_pixels or not height * width:
        raise SencaError(
            f"the image {quote(name)} declares {width} x {height} pixels; expected at most {max_pixels:,} in "
            "all; use a reduced image or raise max_image_pixels"
        )
    piece = math.prod(map(max, image.data.chunks)) * image.dtype.itemsize
    if piece > max(_PIECE, channels * width * embedded.TILE * image.dtype.itemsize):
        raise SencaError(
            f"the image {quote(name)} is stored in pieces of {piece / 1e9:,.0f} GB; write it tiled"
        )

    def band(top: int, bottom: int) -> np.ndarray:
        try:
            rows = image.data[:, top:bottom].compute(scheduler="synchronous")
        except Exception as error:  # noqa: BLE001 - decoders raise all kinds of errors on damaged bytes
            raise SencaError(
                f"the image {quote(name)} cannot be decoded ({' '.join(str(error).split())[:200]}); copy the "
                "store again"
            ) from None
        return embedded.as_rgb(np.moveaxis(rows, 0, -1))

    content = embedded.folder_digest(path / "images" / name)
    digest = hashlib.sha256(f"{content} {image.shape}".encode()).hexdigest()
    return Kept(embedded.keep_tiles(digest, height, width, band), (width, height))


def _open(path: Path) -> Any:
    """The store with its images and shapes, of which images are not read yet; raises SencaError."""
    with warnings.catch_warnings():
        # What libraries below tell their developers, and what spatialdata tells of stores it wrote earlier.
        warnings.simplefilter("ignore")
        try:
            from spatialdata import read_zarr

            return read_zarr(path, selection=("images", "shapes"))
        except Exception as error:  # noqa: BLE001 - damaged stores raise all kinds of errors
            raise SencaError(
                f"cannot be opened as SpatialData ({' '.join(str(error).split())[:200]}); expected a whole "
                "store; copy it again"
            ) from None


def _largest(image: Any) -> Any:
    """The image (channels, H, W) in full resolution, where it is stored in several."""
    if hasattr(image, "data_vars") or hasattr(image, "children"):
        level = next(iter(image.children.values()))
        return next(iter(level.data_vars.values()))
    return image

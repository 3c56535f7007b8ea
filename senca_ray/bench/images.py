"""Figures `image`: patches a second and peak memory of cutting patches from large images of two kinds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from senca_ray.bench.figure import Figure
from senca_ray.bench.process import fresh, peak_memory_mb

SIDE = 40_000
"""Pixels on each side of the image."""
SPOTS = 5000
_PIXELS = 224
_TEXTURE = 4000
"""Longest side of the piece of noise that the image repeats."""
_BOUND_MB = 2000.0
"""What a worker that prepares such an image may take, and this process holds all of its image part."""
_KINDS = {"slide": "tiled TIFF with levels", "jpeg": "JPEG"}


def measure(
    repeat: int, say: Callable[[str], None], *, side: int = SIDE, kinds: tuple[str, ...] = ("slide",)
) -> list[Figure]:
    """Make an image of `side` pixels a side and cut patches around 5,000 spots in every run.

    `kinds` are some of 'slide' (a tiled TIFF with levels) and 'jpeg', which is decoded to a temporary file of
    3 bytes a pixel.
    """
    figures = []
    with tempfile.TemporaryDirectory(prefix="senca-bench-") as folder:
        for kind in kinds:
            say(f"making an image of {side:,} x {side:,} pixels ({_KINDS[kind]})")
            path = Path(folder) / f"image.{'tif' if kind == 'slide' else 'jpg'}"
            fresh(make_image, path=str(path), side=side)
            runs = []
            for run in range(repeat):
                say(f"cutting {SPOTS:,} patches from it, {run + 1} of {repeat}")
                runs.append(fresh(cut_patches, path=str(path), spots=SPOTS))
            path.unlink()
            note = (
                f"simulated {_KINDS[kind]}, {side:,} x {side:,} pixels, {SPOTS:,} patches of {_PIXELS} pixels"
            )
            figures += [
                Figure(
                    name=f"image.memory.{kind}",
                    title=f"patches of a {kind}: peak memory",
                    unit="MB",
                    runs=tuple(r["mb"] for r in runs),
                    bound=_BOUND_MB,
                    note=note,
                ),
                Figure(
                    name=f"image.rate.{kind}",
                    title=f"patches of a {kind}",
                    unit="patches/s",
                    better="higher",
                    runs=tuple(SPOTS / r["seconds"] for r in runs),
                    note=note,
                ),
            ]
    return figures


def make_image(path: str, side: int) -> None:
    """Write coloured noise, as a JPEG or as a tiled TIFF with levels. For a fresh process."""
    import pyvips

    texture = min(side, _TEXTURE)
    noise = [
        pyvips.Image.gaussnoise(texture, texture, mean=mean, sigma=40, seed=mean).gaussblur(1.5)
        for mean in (190, 140, 180)
    ]
    piece = noise[0].bandjoin(noise[1:]).cast("uchar").copy(interpretation="srgb").copy_memory()
    times = side // texture + 1
    image = piece.replicate(times, times).crop(0, 0, side, side)
    if path.endswith(".jpg"):
        image.jpegsave(path, Q=85)
    else:
        image.tiffsave(
            path, tile=True, pyramid=True, compression="jpeg", Q=85, tile_width=256, tile_height=256
        )


def cut_patches(path: str, spots: int) -> dict[str, float]:
    """Cut patches around a grid of spots in random order, as barcodes have it; returns seconds and memory.

    For a fresh process. Patches overlap as those of adjacent spots do.
    """
    import numpy as np

    from senca_ray.data.images import open_picture, thumbnail
    from senca_ray.data.patches import patch_batches, spot_distance_pixels

    started = time.perf_counter()
    with open_picture(Path(path), 10 * SIDE**2) as picture:
        thumbnail(picture)
        width, height = picture.size
        columns = int(np.ceil(np.sqrt(spots)))
        grid = np.stack(np.divmod(np.arange(spots), columns), axis=1)[:, ::-1]
        pixel_xy = np.random.default_rng(0).permutation((grid + 0.5) / columns * (width, height))
        radius = spot_distance_pixels(pixel_xy)
        done = sum(len(rows) for rows, _ in patch_batches(picture, pixel_xy, radius, _PIXELS, 256))
    return {"spots": float(done), "seconds": time.perf_counter() - started, "mb": peak_memory_mb()}

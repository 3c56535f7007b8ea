"""Painting of H&E-like images for the simulated cohort: plausible to look at, never evidence of anything.

Every tissue is a recipe of nuclei (density, size, shape) over an eosin texture; both stains absorb light
as Beer and Lambert say. What a tissue looks like depends on its histology alone: two regions of the same
histology come out of the very same recipe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

HISTOLOGIES = ("tumour", "stroma", "lymphoid", "fat", "acini")
"""Tissue kinds that the painter knows; a raster holds their indices and -1 for glass."""

CELL_PIXELS = 4
"""Side in pixels of one raster cell."""

_GLASS = 244.0
_HAEMATOXYLIN = np.array([0.66, 0.72, 0.28])
_EOSIN = np.array([0.10, 0.92, 0.32])
"""Optical densities in red, green and blue of one unit of each stain."""


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one tissue kind; lengths in pixels."""

    spacing: float
    share: float
    """Share of the lattice places (one every `spacing`) that hold a nucleus."""
    radius: float
    elongation: float
    darkness: float


_NUCLEI = {
    "tumour": Nuclei(spacing=6.6, share=0.86, radius=2.5, elongation=1.25, darkness=0.95),
    "stroma": Nuclei(spacing=10.5, share=0.5, radius=1.6, elongation=3.2, darkness=0.95),
    "lymphoid": Nuclei(spacing=5.0, share=0.9, radius=1.75, elongation=1.1, darkness=1.2),
    "fat": Nuclei(spacing=15.0, share=0.3, radius=1.4, elongation=2.2, darkness=1.0),
    "acini": Nuclei(spacing=11.0, share=0.4, radius=1.6, elongation=2.2, darkness=0.95),
}


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Draw a smooth random field of mean 0 and variance 1; `scale` is its wavelength in raster cells.

    Returns (height, width) float32.
    """
    lattice = rng.normal(size=tuple(int(np.ceil(n / scale)) + 4 for n in shape))
    # A random shift keeps the lattice from lying at the same place in every field.
    shift = rng.uniform(0, 1, size=2)
    rows, columns = (np.arange(n) / scale + 1 + s for n, s in zip(shape, shift, strict=True))
    grid = np.meshgrid(rows, columns, indexing="ij")
    field = ndimage.map_coordinates(lattice, grid, order=3, mode="nearest")
    return ((field - field.mean()) / field.std()).astype(np.float32)


def paint(
    histology: np.ndarray, density: np.ndarray, thickness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Paint one section.

    Shapes: histology (h, w) index into HISTOLOGIES or -1 for glass; density (h, w) relative density of
    nuclei; thickness (h, w) relative amount of stain. Returns (h * CELL_PIXELS, w * CELL_PIXELS, 3) uint8.
    """
    shape = (histology.shape[0] * CELL_PIXELS, histology.shape[1] * CELL_PIXELS)
    shares = {
        kind: _enlarge(ndimage.gaussian_filter((histology == i).astype(np.float32), 1.0), shape)
        for i, kind in enumerate(HISTOLOGIES)
    }
    fibres, angle = _fibres(rng, histology.shape, shape)
    grain = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), 1.2) * 3.0
    septa = _enlarge(np.abs(smooth_field(rng, histology.shape, 11.0)) < 0.22, shape)

    walls = _fat_walls(rng, histology, shape)
    lumens, acinar = _acini(rng, histology, shape)
    eosin = shares["stroma"] * (0.42 + 0.20 * fibres)
    eosin += shares["acini"] * (0.34 + 0.12 * fibres)
    eosin += shares["tumour"] * (0.30 + 0.05 * grain + 0.12 * septa * (1 + fibres))
    eosin += shares["lymphoid"] * (0.22 + 0.05 * grain)
    eosin += shares["fat"] * 0.55 * walls
    eosin *= 1 + 0.08 * grain

    nuclei = _draw_nuclei(rng, histology, density, angle, septa, acinar, shape)
    haematoxylin = nuclei + 0.10 * shares["tumour"] + 0.10 * shares["lymphoid"] + 0.05 * shares["acini"]
    haematoxylin *= 1 + 0.10 * grain
    hole = 1 - 0.95 * lumens
    return _stain(haematoxylin * hole, np.maximum(eosin, 0) * hole, _enlarge(thickness, shape), rng)


def _enlarge(raster: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(raster, dtype=np.float32))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))


def _fibres(
    rng: np.random.Generator, raster: tuple[int, int], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Wavy collagen: noise stretched along a bent direction. Returns texture (pixels), angle (raster)."""
    rows, columns = np.mgrid[: shape[0] : 2, : shape[1] : 2].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    bend = smooth_field(rng, raster, 24.0)
    warp = _enlarge(bend, rows.shape) * 22.0
    across = rows * np.cos(turn) - columns * np.sin(turn) + warp
    along = rows * np.sin(turn) + columns * np.cos(turn)
    noise = rng.standard_normal((512, 512), dtype=np.float32)
    texture = sum(
        weight * ndimage.map_coordinates(noise, [across / a, along / b], order=1, mode="grid-wrap")
        for weight, a, b in ((0.7, 5.0, 60.0), (0.7, 2.6, 26.0))
    )
    slope = np.gradient(bend * 22.0 / CELL_PIXELS)
    angle = np.arctan2(np.cos(turn) + slope[0], -np.sin(turn) + slope[1]) + np.pi / 2
    return _enlarge(texture, shape), angle


def _fat_walls(rng: np.random.Generator, histology: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Walls between fat cells: pixels nearly as close to a second cell centre as to the first."""
    walls = np.zeros(shape, dtype=np.float32)
    near = ndimage.binary_dilation(histology == HISTOLOGIES.index("fat"), iterations=2)
    rows, columns = np.nonzero(np.kron(near, np.ones((CELL_PIXELS, CELL_PIXELS), dtype=bool)))
    if len(rows) == 0:
        return walls
    centres = _lattice(rng, shape, spacing=17.0, jitter=0.33)
    distance, _ = cKDTree(centres).query(np.column_stack([columns, rows]), k=2)
    walls[rows, columns] = np.clip(1.6 - 0.55 * (distance[:, 1] - distance[:, 0]), 0, 1)
    return walls


def _acini(
    rng: np.random.Generator, histology: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Gland acini: returns their lumens (pixels, 0 to 1) and the places (M, 2) of their nuclei, x then y."""
    centres = _lattice(rng, shape, spacing=26.0, jitter=0.25)
    present = rng.uniform(size=len(centres)) < 0.85
    centres = centres[present & (_at(histology, centres) == HISTOLOGIES.index("acini"))]
    radii = rng.uniform(6.0, 12.0, size=len(centres))
    canvas = Image.new("L", shape[::-1])
    draw = ImageDraw.Draw(canvas)
    nuclei = [np.empty((0, 2))]
    for (x, y), radius in zip(centres, radii, strict=True):
        inner = radius * rng.uniform(0.30, 0.5)
        draw.ellipse((x - inner, y - inner, x + inner, y + inner), fill=255)
        turns = np.arange(0, 2 * np.pi, 4.3 / radius) + rng.uniform(0, 1)
        ring = radius * rng.uniform(0.9, 1.1, size=len(turns))
        nuclei.append(np.column_stack([x + ring * np.cos(turns), y + ring * np.sin(turns)]))
    lumens = ndimage.gaussian_filter(np.asarray(canvas, dtype=np.float32) / 255, 0.8)
    return lumens, np.concatenate(nuclei)


def _draw_nuclei(
    rng: np.random.Generator,
    histology: np.ndarray,
    density: np.ndarray,
    angle: np.ndarray,
    septa: np.ndarray,
    acinar: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Haematoxylin of all nuclei, (pixels) float32; drawn at twice the size and reduced, for soft edges."""
    canvas = Image.new("L", (shape[1] * 2, shape[0] * 2))
    draw = ImageDraw.Draw(canvas)
    for index, kind in enumerate(HISTOLOGIES):
        recipe = _NUCLEI[kind]
        places = _lattice(rng, shape, recipe.spacing, jitter=0.4)
        chance = recipe.share * _at(density, places)
        if kind == "tumour":
            chance = chance * (1 - 0.75 * _at(septa, places, 1))
        keep = (_at(histology, places) == index) & (rng.uniform(size=len(places)) < chance)
        _draw_ellipses(draw, rng, places[keep], recipe, _at(angle, places[keep]))
    epithelium = Nuclei(spacing=0, share=1, radius=1.9, elongation=1.2, darkness=1.0)
    _draw_ellipses(draw, rng, acinar, epithelium, rng.uniform(0, np.pi, size=len(acinar)))
    reduced = canvas.resize(shape[::-1], Image.Resampling.BOX)
    return ndimage.gaussian_filter(np.asarray(reduced, dtype=np.float32) / 170, 0.5)


def _draw_ellipses(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    places: np.ndarray,
    recipe: Nuclei,
    angle: np.ndarray,
) -> None:
    count = len(places)
    radius = recipe.radius * rng.lognormal(0, 0.18, size=count)
    stretch = np.sqrt(recipe.elongation * rng.lognormal(0, 0.12, size=count))
    angle = angle + rng.normal(0, 0.25 if recipe.elongation > 2 else 2.0, size=count)
    turns = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    long, short = (radius * stretch)[:, None] * np.cos(turns), (radius / stretch)[:, None] * np.sin(turns)
    x = places[:, :1] + long * np.cos(angle)[:, None] - short * np.sin(angle)[:, None]
    y = places[:, 1:] + long * np.sin(angle)[:, None] + short * np.cos(angle)[:, None]
    outline = (np.stack([x, y], axis=2) * 2).reshape(count, -1)
    fill = np.clip(170 * recipe.darkness * rng.normal(1, 0.14, size=count), 40, 255).astype(int)
    for points, value in zip(outline.tolist(), fill.tolist(), strict=True):
        draw.polygon(points, fill=value)


def _lattice(rng: np.random.Generator, shape: tuple[int, int], spacing: float, jitter: float) -> np.ndarray:
    """Places (M, 2), x then y in pixels, on a hexagonal lattice shaken by `jitter` of its spacing."""
    rows = np.arange(0, shape[0], spacing * np.sqrt(3) / 2)
    columns = np.arange(0, shape[1], spacing)
    x, y = np.meshgrid(columns, rows)
    x[1::2] += spacing / 2
    places = np.column_stack([x.ravel(), y.ravel()])
    places += rng.normal(0, jitter * spacing / 2, size=places.shape)
    return np.clip(places, 0, [shape[1] - 1, shape[0] - 1])


def _at(raster: np.ndarray, places: np.ndarray, cell: int = CELL_PIXELS) -> np.ndarray:
    columns, rows = (places // cell).astype(int).T
    return raster[rows, columns]


def _stain(
    haematoxylin: np.ndarray, eosin: np.ndarray, thickness: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Turn amounts of stain into colours; hue and strength of both stains differ between sections."""
    strengths = rng.normal([1.0, 1.0], [0.08, 0.10])
    hues: Sequence[np.ndarray] = [vector * rng.normal(1, 0.05, size=3) for vector in (_HAEMATOXYLIN, _EOSIN)]
    haematoxylin, eosin = haematoxylin * thickness * strengths[0], eosin * thickness * strengths[1]
    image = np.empty((*haematoxylin.shape, 3), dtype=np.uint8)
    for channel in range(3):
        absorbed = haematoxylin * np.float32(hues[0][channel]) + eosin * np.float32(hues[1][channel])
        image[..., channel] = np.clip(_GLASS * np.exp(-absorbed), 0, 255)
    return image

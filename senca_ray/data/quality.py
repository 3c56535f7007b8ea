"""What quality control wants to know of a section, measured once while it is prepared.

Only facts: what is too few, too blurred or too far off is decided when a table is made of them, so that
another limit prepares nothing again. Everything returned is a JSON value, None where it cannot be told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from senca_ray.data.section import RawSection

if TYPE_CHECKING:
    from senca_ray.data.pictures.picture import Picture

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the counts and genes of a spot."""

_HIGHEST, _LEAST_HIGHEST = 20, 100
"""A spot is known again by its 20 highest counts; below 100 in all, two spots may have the same by chance."""
_SKETCH, _LEAST_SPOTS = 128, 30
"""Hashes kept of a section, and spots that it needs for them."""

_TEXTURE = 7
"""Pixels of the thumbnail over which texture is measured."""
_TWO_KINDS = 0.75
"""Share of the variance between two classes above which an image holds both tissue and glass.

An even spread of values has just this much. Measured on HER2ST: 0.92 and more on whole sections, 0.82 and
more when they are blurred beyond use, 0.65 and less on tissue alone and on glass alone.
"""
_SPOT = 0.5
"""Diameter of a spot in spot distances (Visium 0.55, HER2ST 0.5)."""
_FARTHEST, _STEP = 3.0, 0.25
"""Shifts that are tried, in spot distances."""
_AS_GOOD = 0.01
"""Of the shifts that fit this nearly as well as the best, the smallest counts."""
_LEAST_FALL = 0.05
"""By this much the fit has to fall at the farthest shifts; else tissue is everywhere and tells nothing."""
_LEAST_DISTANCE = 4.0
"""Pixels of the thumbnail between spots, below which shifts of a spot distance drown in the mask's edge."""
_MOST_SITES, _MOST_WINDOWS = 1000, 100
_WINDOW = 128
"""Side in pixels to which a window of two spot distances is resized before its sharpness is measured."""


def expression_quality(section: RawSection) -> dict[str, Any]:
    """Measure what the counts tell of a section.

    `counts` and `genes` are QUANTILES over the spots of their counts and of their genes with counts;
    `mito_share` is the median over the spots of the share of counts in genes named MT-..., None where no
    gene is named so (Ensembl names, or left out by the makers of the data); `signature` is what
    `analysis.quality` finds duplicated sections by.
    """
    counts = section.counts
    totals = np.asarray(counts.sum(axis=1)).ravel().astype(np.float64)
    genes = np.asarray((counts > 0).sum(axis=1)).ravel()
    mito = [i for i, name in enumerate(section.genes) if name.upper().startswith("MT-")]
    counted = totals > 0
    share = None
    if mito and counted.any():
        of_mito = np.asarray(counts[:, mito].sum(axis=1)).ravel()
        share = _rounded(np.median(of_mito[counted] / totals[counted]))
    return {
        "spots": len(section.spots),
        "genes_detected": len(np.unique(counts.indices[counts.data > 0])),
        "counts": [_rounded(q) for q in np.quantile(totals, QUANTILES)],
        "genes": [_rounded(q) for q in np.quantile(genes, QUANTILES)],
        "mito_genes": len(mito),
        "mito_share": share,
        "signature": _signature(section),
    }


def _signature(section: RawSection) -> dict[str, Any] | None:
    """The smallest hashes of the section's spots, and how many have one: a bottom-k sketch (Broder 1997).

    The hash of a spot is that of its highest counts, in falling order: names and order of spots and genes are
    no matter, nor are genes with few counts, which are often left out. None for too few spots with enough
    counts.
    """
    found = np.unique(np.fromiter(_spot_hashes(section), dtype=np.int64))
    if len(found) < _LEAST_SPOTS:
        return None
    return {"spots": len(found), "sketch": found[:_SKETCH].tolist()}


def _spot_hashes(section: RawSection) -> Iterator[int]:
    counts = section.counts
    for start, end in zip(counts.indptr, counts.indptr[1:], strict=False):
        highest = np.sort(counts.data[start:end])[::-1][:_HIGHEST]
        if highest.sum() >= _LEAST_HIGHEST:
            packed = highest[highest > 0].astype("<i8").tobytes()
            # Six bytes: a whole number that every reader of JSON keeps exactly.
            yield int.from_bytes(hashlib.blake2b(packed, digest_size=6).digest(), "little")


def image_quality(
    picture: Picture, thumbnail: np.ndarray, scale: float, pixel_xy: np.ndarray, distance_px: float
) -> dict[str, Any]:
    """Measure what the image tells of a section, and how well the spots lie on its tissue.

    Shapes: thumbnail (H, W, 3) uint8, `scale` of its pixels a pixel of the picture; pixel_xy (N, 2) in
    pixels of the picture, `distance_px` between adjacent spots. Returns `distance_px`, `sharpness`,
    `off_tissue` (share of the spots), `tissue_share` (of the image), and of the alignment: `fit` of spots
    and tissue at their place, `best_fit` of all shifts, `shift` [x, y] in spot distances where they fit that
    well, and `turned_fit`, the best fit of any other orientation of the frame, with `turned`, which one (1 to
    7, see `reoriented`).
    """
    small, distance = pixel_xy * scale, distance_px * scale
    mask = tissue_mask(thumbnail)
    facts: dict[str, Any] = dict.fromkeys(
        ("off_tissue", "tissue_share", "fit", "best_fit", "shift", "turned_fit", "turned")
    )
    inside = np.ones(len(pixel_xy), dtype=bool)
    if mask is not None:
        spot = max(1, round(_SPOT * distance))
        covered = ndimage.uniform_filter(mask.astype(np.float32), spot, mode="nearest") >= 0.5
        inside = _at(covered, small)
        facts |= {"off_tissue": _rounded(1 - inside.mean()), "tissue_share": _rounded(mask.mean())}
        facts |= _alignment(covered, small, distance)
    where = pixel_xy[inside] if inside.any() else pixel_xy
    sharpness = _sharpness(picture, where, distance_px)
    return {"distance_px": _rounded(distance_px), "sharpness": sharpness, **facts}


def tissue_mask(thumbnail: np.ndarray) -> np.ndarray | None:
    """Where the thumbnail shows tissue: (H, W) bool; None where it is not made of both tissue and glass.

    Tissue is told by its texture (log of the standard deviation of brightness nearby; Otsu's threshold), not
    by its colour: glass may be tinted and smeared with eosin, fat is as pale as glass.
    """
    grey = thumbnail.astype(np.float32).mean(axis=2)
    mean, square = (ndimage.uniform_filter(g, _TEXTURE, mode="nearest") for g in (grey, grey * grey))
    texture = np.log1p(np.sqrt(np.maximum(square - mean * mean, 0)))
    if not texture.std():
        return None
    heights, edges = np.histogram(texture, bins=128)
    middle, share = (edges[:-1] + edges[1:]) / 2, heights / heights.sum()
    below, moment = np.cumsum(share)[:-1], np.cumsum(share * middle)
    between = (moment[-1] * below - moment[:-1]) ** 2 / np.maximum(below * (1 - below), 1e-12)
    cut = int(between.argmax())
    if between[cut] < _TWO_KINDS * (share @ (middle - moment[-1]) ** 2):
        return None
    # Gaps inside the tissue are closed; then goes the seam that texture has on the glass.
    closed = ndimage.maximum_filter(texture > edges[cut + 1], _TEXTURE)
    return np.asarray(ndimage.minimum_filter(closed, 2 * _TEXTURE - 1))


def reoriented(xy: np.ndarray, orientation: int, size: tuple[float, float]) -> np.ndarray:
    """Positions in a frame of `size` (width, height) under one of the 8 symmetries of a rectangle.

    The bits of `orientation`: 4 swaps x and y first, 1 then mirrors left and right, 2 top and bottom; so 3 is
    half a turn, 5 and 6 are quarter turns.
    """
    turned = xy[:, ::-1].copy() if orientation & 4 else xy.copy()
    for axis, bit in enumerate((1, 2)):
        if orientation & bit:
            turned[:, axis] = size[axis] - turned[:, axis]
    return turned


def _alignment(covered: np.ndarray, xy: np.ndarray, distance: float) -> dict[str, Any]:
    """Fit of spots and tissue at their place, shifted, and in other orientations.

    The fit is the share of sites that are right: spots on tissue, and free places of the array off tissue.
    Only free places between the outermost spots count, because tissue may go on beyond the array.
    """
    rng = np.random.default_rng(0)
    unit = max(distance, _LEAST_DISTANCE)
    spots, free = (_some(rng, sites) for sites in (xy, _free_places(xy, unit)))
    steps = np.arange(-_FARTHEST, _FARTHEST + _STEP / 2, _STEP)
    shifts = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    size = (covered.shape[1], covered.shape[0])
    fits = np.empty((8, len(shifts)))
    for orientation in range(8):
        on, off = (reoriented(sites, orientation, size) + shifts[:, None] * unit for sites in (spots, free))
        right = _at(covered, on).sum(axis=1) + (~_at(covered, off)).sum(axis=1)
        fits[orientation] = right / (len(spots) + len(free))
    length = np.hypot(shifts[:, 0], shifts[:, 1])
    own, here = fits[0], int(length.argmin())
    far = np.abs(length - _FARTHEST) < _STEP
    if (fits.max(axis=1) - np.median(fits[:, far], axis=1)).max() < _LEAST_FALL:
        return {}
    good = np.flatnonzero(own >= own.max() - _AS_GOOD)
    best = shifts[good[length[good].argmin()]]
    turned = int(fits[1:].max(axis=1).argmax()) + 1
    return {
        "fit": _rounded(own[here]),
        "best_fit": _rounded(own.max()),
        "shift": best.tolist() if distance >= _LEAST_DISTANCE else None,
        "turned_fit": _rounded(fits[turned].max()),
        "turned": turned,
    }


def _free_places(xy: np.ndarray, distance: float) -> np.ndarray:
    """(M, 2) places of a square array between the outermost spots, farther than `distance` from each."""
    from scipy.spatial import cKDTree

    ends = zip(xy.min(axis=0), xy.max(axis=0), strict=True)
    axes = (np.arange(low, high + distance / 2, distance) for low, high in ends)
    places = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    return places[cKDTree(xy).query(places)[0] > distance]


def _some(rng: np.random.Generator, sites: np.ndarray) -> np.ndarray:
    return sites if len(sites) <= _MOST_SITES else sites[rng.choice(len(sites), _MOST_SITES, replace=False)]


def _at(covered: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """(...) value of a mask at positions (..., 2); False outside."""
    end = np.array([covered.shape[1], covered.shape[0]])
    pixel = np.floor(xy).astype(np.int64)
    inside = ((pixel >= 0) & (pixel < end)).all(axis=-1)
    pixel = pixel.clip(0, end - 1)
    return np.asarray(covered[pixel[..., 1], pixel[..., 0]] & inside)


def _sharpness(picture: Picture, pixel_xy: np.ndarray, distance_px: float) -> float | None:
    """Median over spots of the variance of the Laplacian by the variance of brightness; None on even images.

    Of windows of two spot distances a side at 128 pixels, of up to 100 spots. The division takes out how
    strongly a section is stained, not what it shows: fat is smoother than a tumour.
    """
    rng = np.random.default_rng(0)
    chosen = pixel_xy[np.sort(rng.permutation(len(pixel_xy))[:_MOST_WINDOWS])]
    side = max(1, round(2 * distance_px))
    found = []
    for left, top in np.round(chosen - distance_px).astype(int).tolist():
        window = picture.window(left, top, side, side, (_WINDOW, _WINDOW))
        grey = window.astype(np.float64).mean(axis=2)
        if (variance := grey.var()) >= 1:
            found.append(ndimage.laplace(grey)[1:-1, 1:-1].var() / variance)
    return _rounded(np.median(found)) if found else None


def _rounded(value: float) -> float:
    return round(float(value), 4)

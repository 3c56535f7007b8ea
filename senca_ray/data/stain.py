"""Stain normalisation: patches of every section in the colours of one reference.

What a section's stains look like is estimated once, from tissue all over it, and every patch is changed by
the same rule: estimated patch by patch, a patch of fat and a patch of tumour would be made to look alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from senca_ray.data.pictures.picture import Picture
from senca_ray.errors import SencaError

Normalise = Callable[[np.ndarray], np.ndarray]
"""From and to (N, S, S, 3) uint8 patches."""

_REFERENCE_STAINS = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
"""(3, 2) optical density of haematoxylin and eosin in red, green and blue, each of length 1, and
(2,) their 99th percentiles of concentration: the reference of Macenko's own implementation."""
_REFERENCE_CONCENTRATIONS = np.array([1.9705, 1.0308])

_REFERENCE_MEAN = np.array([8.74108109, -0.12440419, 0.0444982])
_REFERENCE_DEVIATION = np.array([0.6135447, 0.10989545, 0.0286032])
"""Mean and standard deviation of a breast cancer slide's tissue (TCGA-A2-A3XS) in lαβ: the reference of Amgad
et al., Bioinformatics 35 (2019) 3461."""

_RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]])
_LOG_LMS_TO_LAB = np.diag(1 / np.sqrt([3.0, 6.0, 2.0])) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
"""Colour space lαβ of Ruderman et al. (1998), in which Reinhard et al. (2001) transfer colours."""

_WHITE = 256.0
"""Light that glass lets through, where 1 is added to every pixel: so glass has optical density 0."""
_GLASS_DENSITY, _TISSUE_DENSITY = 0.05, 0.15
"""Optical densities (natural logarithm): a pixel below is glass, one above is tissue (Macenko's β)."""
_OVERVIEW_SIDE, _SAMPLES, _SAMPLE_SIDE = 512, 64, 128
"""Tissue is looked for in an overview of this longer side; so many windows of such a side are taken of it."""
_NEAREST_STAINS = 20.0
"""Condition number of two stains 6 degrees apart: nearer ones are one and the same. H&E has about 4."""
_FEWEST_PIXELS = 1000
"""Pixels of tissue below which nothing is estimated."""


def normaliser(name: str, picture: Picture) -> Normalise | None:
    """Return what brings a picture's patches to the reference's colours; None for the name 'none'.

    `name` is 'none', 'macenko' (Macenko et al., ISBI 2009) or 'reinhard' (Reinhard et al., 2001). Empty glass
    stays as it is. Raises SencaError where the picture shows too little tissue to tell its stains.
    """
    if name == "none":
        return None
    tissue = _tissue(picture)
    if len(tissue) < _FEWEST_PIXELS:
        raise SencaError(
            f"{len(tissue)} pixels of stained tissue found in samples from all over the image; expected "
            f"{_FEWEST_PIXELS:,} for stain {name!r}; look at the image, or prepare with stain 'none'"
        )
    change = {"macenko": _macenko, "reinhard": _reinhard}[name](tissue)

    def normalise(patches: np.ndarray) -> np.ndarray:
        normal = np.empty_like(patches)
        for index, patch in enumerate(
            patches
        ):  # one at a time: in floating point a patch takes 4 times as much
            share = _tissue_share(patch)
            mixed = patch + share * (np.clip(change(patch), 0, 255) - patch)
            normal[index] = np.rint(mixed).astype(np.uint8)
        return normal

    return normalise


def _macenko(tissue: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Concentrations of the section's own two stains, shown with the reference's stains and strengths."""
    from torchstain.base.normalizers import MacenkoNormalizer

    own = MacenkoNormalizer(backend="numpy")
    own.fit(tissue[np.newaxis], Io=_WHITE, alpha=1, beta=_TISSUE_DENSITY)
    stains, strongest = own.HERef, own.maxCRef
    if not (np.isfinite(stains).all() and (strongest > 0).all() and np.linalg.cond(stains) < _NEAREST_STAINS):
        raise SencaError(
            "the image's tissue shows one stain or none; Macenko's normalisation needs two; look at the "
            "image, or prepare with stain 'reinhard' or 'none'"
        )
    ratio = _REFERENCE_CONCENTRATIONS / strongest
    # Unmixing, scaling and mixing again are all linear in optical density: one matrix.
    matrix = (_REFERENCE_STAINS * ratio @ np.linalg.pinv(stains)).T.astype(np.float32)
    return lambda patch: _WHITE * np.exp(-(_density(patch) @ matrix)) - 1


def _reinhard(tissue: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The tissue's mean and deviation of every channel of lαβ become the reference's."""
    own = _lab(tissue)
    ratio = _REFERENCE_DEVIATION / np.maximum(own.std(axis=0), 1e-6)
    mean, back = own.mean(axis=0), np.linalg.inv(_LOG_LMS_TO_LAB)

    def change(patch: np.ndarray) -> np.ndarray:
        lab = (_lab(patch) - mean) * ratio + _REFERENCE_MEAN
        changed: np.ndarray = np.exp(lab @ back.T) @ np.linalg.inv(_RGB_TO_LMS).T - 1
        return changed

    return change


def _lab(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) lαβ of (..., 3) RGB."""
    lab: np.ndarray = np.log((pixels + 1.0) @ _RGB_TO_LMS.T) @ _LOG_LMS_TO_LAB.T
    return lab


def _density(pixels: np.ndarray) -> np.ndarray:
    """(..., 3) float32 optical density of (..., 3) uint8 RGB."""
    table = -np.log((np.arange(256) + 1) / _WHITE)
    return table.astype(np.float32)[pixels]


def _tissue_share(pixels: np.ndarray) -> np.ndarray:
    """(..., 1) from 0 for glass to 1 for tissue: without steps in between, so that no edge appears."""
    densest = _density(pixels).max(axis=-1, keepdims=True)
    share: np.ndarray = np.clip((densest - _GLASS_DENSITY) / (_TISSUE_DENSITY - _GLASS_DENSITY), 0, 1)
    return share


def _tissue(picture: Picture) -> np.ndarray:
    """(n, 3) uint8 pixels of tissue from windows at full resolution, spread evenly over the tissue.

    Not from the overview itself, in which averaging has mixed the stains.
    """
    width, height = picture.size
    scale = max(1.0, max(width, height) / _OVERVIEW_SIDE)
    out = (max(1, round(width / scale)), max(1, round(height / scale)))
    places = np.argwhere(_is_tissue(picture.window(0, 0, width, height, out)))
    if not len(places):
        return np.empty((0, 3), dtype=np.uint8)
    chosen = places[np.linspace(0, len(places) - 1, min(_SAMPLES, len(places))).round().astype(int)]
    across, down = min(_SAMPLE_SIDE, width), min(_SAMPLE_SIDE, height)
    found = []
    for row, column in chosen:
        left = int(np.clip((column + 0.5) * scale - across / 2, 0, width - across))
        top = int(np.clip((row + 0.5) * scale - down / 2, 0, height - down))
        window = picture.window(left, top, across, down, (across, down))
        found.append(window[_is_tissue(window)])
    return np.concatenate(found)


def _is_tissue(pixels: np.ndarray) -> np.ndarray:
    """(...) whether pixels absorb light in every channel: Macenko's own rule."""
    return np.asarray((_density(pixels) >= _TISSUE_DENSITY).all(axis=-1))

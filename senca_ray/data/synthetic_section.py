"""One simulated section: its regions, what generates them, its counts and its image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from senca_ray import keys
from senca_ray.data.synthetic_image import CELL_PIXELS, HISTOLOGIES, paint, smooth_field

REGIONS: dict[str, tuple[str, dict[str, float]]] = {
    "invasive cancer": ("tumour", {"EPITHELIAL": 1.0, "INVASION": 1.0}),
    "cancer in situ": ("tumour", {"EPITHELIAL": 1.0, "DUCTAL": 1.0}),
    "connective tissue": ("stroma", {"STROMAL": 1.0}),
    "adipose tissue": ("fat", {"STROMAL": 1.0}),
    "immune infiltrate": ("lymphoid", {"IMMUNE": 1.0, "STROMAL": 0.4}),
    "breast glands": ("acini", {"EPITHELIAL": 0.6, "SECRETORY": 1.0}),
}
"""Region -> its histology and its mean programme weights."""

ALIKE_IN_HISTOLOGY = ("invasive cancer", "cancer in situ")
ALIKE_IN_EXPRESSION = ("connective tissue", "adipose tissue")

REGION_PROGRAMMES = ("EPITHELIAL", "INVASION", "DUCTAL", "STROMAL", "IMMUNE", "SECRETORY")
NUISANCE_PROGRAMMES = ("HYPOXIA", "STRESS", "CYCLING")
"""Expression programmes that vary over the tissue without regard to its regions."""

_PROGRAMME_GENES = 40
_BACKGROUND_GENES = 840
_COLUMNS, _ROWS, _FIRST = 26, 25, 3
_MARGIN = 1.5
_SPOT_CELLS = 18
SPOT_PIXELS = _SPOT_CELLS * CELL_PIXELS
"""Spot distance in the images, in pixels."""


@dataclass(frozen=True)
class SimulatedSection:
    """One simulated section with the factors that generated it: N spots, G genes, P programmes."""

    sample: str
    patient: str
    xy: np.ndarray
    """(N, 2) int64 array coordinates."""
    exact_xy: np.ndarray
    """(N, 2) float64 array coordinates as measured on the image."""
    pixel_xy: np.ndarray
    """(N, 2) float64 position in the image, in pixels."""
    regions: np.ndarray
    """(N,) str, the region of every spot."""
    labels: np.ndarray
    """(N,) str, the region or keys.UNDETERMINED."""
    programmes: np.ndarray
    """(N, P) float64 weights of REGION_PROGRAMMES, then of NUISANCE_PROGRAMMES."""
    histology: np.ndarray
    """(N,) int64 index into HISTOLOGIES."""
    capture: np.ndarray
    """(N,) float64 relative capture rate."""
    genes: tuple[str, ...]
    counts: np.ndarray
    """(N, G) int32."""
    image: np.ndarray
    """(height, width, 3) uint8."""

    def factors(self) -> np.ndarray:
        """(N, P + 6) what generated each spot: programme weights, capture rate, histology as indicators."""
        indicators = np.eye(len(HISTOLOGIES))[self.histology]
        return np.column_stack([self.programmes, self.capture, indicators])


def simulate_section(patient: int, section: int, *, seed: int = 0) -> SimulatedSection:
    """Simulate one section of one patient (both counted from 0); the same numbers give the same section.

    Sections of a patient share most of their layout and the patient's effect on each gene.
    """
    own, shared = (seed, patient, section), (seed, patient)
    raster = _layout(_rng("layout", *shared), _rng("layout", *own))
    rng = _rng("spots", *own)
    xy = _spots_inside(raster >= 0)
    exact_xy = xy + rng.normal(0, 0.04, size=xy.shape)
    pixel_xy = (exact_xy - _FIRST + _MARGIN) * SPOT_PIXELS
    index = _sample(raster, pixel_xy).astype(int)
    regions = np.array(list(REGIONS))[index]
    labels = np.where(_uncertain(raster, pixel_xy, rng), keys.UNDETERMINED, regions)

    rng = _rng("counts", *own)
    programmes = _programmes(regions, raster, pixel_xy, rng)
    capture = np.exp(0.35 * _sample(_nuisance(rng, raster, 7.0), pixel_xy))
    genes, counts = _counts(programmes, capture, _rng("genes", seed), _rng("patient", *shared), rng)

    rng = _rng("image", *own)
    histology_of = np.array([HISTOLOGIES.index(histology) for histology, _ in REGIONS.values()])
    histology = np.where(raster >= 0, histology_of[raster], -1)
    density, thickness = (np.exp(0.2 * _nuisance(rng, raster, 4.0)) for _ in range(2))
    letter = chr(ord("A") + patient)
    return SimulatedSection(
        sample=f"{letter}{section + 1}",
        patient=letter,
        xy=xy,
        exact_xy=exact_xy,
        pixel_xy=pixel_xy,
        regions=regions,
        labels=labels,
        programmes=programmes,
        histology=histology_of[index],
        capture=capture,
        genes=genes,
        counts=counts,
        image=paint(histology, density, thickness, rng),
    )


_STREAMS = ("layout", "spots", "genes", "patient", "counts", "image")


def _rng(stream: str, *numbers: int) -> np.random.Generator:
    """A generator of its own for each purpose, so that a change in one leaves the others as they are."""
    return np.random.default_rng([_STREAMS.index(stream), *numbers])


def _layout(shared: np.random.Generator, own: np.random.Generator) -> np.ndarray:
    """Regions of a section on the raster: (h, w) index into REGIONS, -1 for glass."""
    height, width = (int((n - 1 + 2 * _MARGIN) * _SPOT_CELLS) for n in (_ROWS, _COLUMNS))

    def field(spots: float) -> np.ndarray:
        smooth = [smooth_field(rng, (height, width), spots * _SPOT_CELLS) for rng in (shared, own)]
        ragged = smooth_field(own, (height, width), 0.7 * _SPOT_CELLS)
        return 0.9 * smooth[0] + 0.42 * smooth[1] + 0.1 * ragged

    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.sqrt(x**2 + y**2)
    # Far from the middle the field has no say: tissue that the image cuts off would lose its outline.
    frame = 4 * np.maximum(np.maximum(abs(x), abs(y)) - 0.86, 0)
    everywhere = np.ones((height, width), dtype=bool)
    tissue = _top(0.09 * field(6.0) - radius - frame, everywhere, own.uniform(0.54, 0.62))
    patches, _ = ndimage.label(tissue)
    tissue = ndimage.binary_fill_holes(patches == np.bincount(patches.ravel())[1:].argmax() + 1)

    names = list(REGIONS)
    regions = np.where(tissue, names.index("connective tissue"), -1)
    fat = _top(field(7.0) + 1.2 * radius, tissue, 0.17)
    tumour = _top(field(8.0), tissue & ~fat, 0.50)
    rest = tissue & ~fat & ~tumour
    immune = _top(field(6.0), rest, 0.28)
    glands = _top(field(6.0), rest & ~immune, 0.36)
    division = field(6.5)
    for name, mask in (
        ("adipose tissue", fat),
        ("invasive cancer", _top(division, tumour, 0.5)),
        ("cancer in situ", _top(-division, tumour, 0.5)),
        ("immune infiltrate", immune),
        ("breast glands", glands),
    ):
        regions[mask] = names.index(name)
    return regions


def _top(field: np.ndarray, within: np.ndarray, share: float) -> np.ndarray:
    """The `share` of the cells `within` where the field is highest."""
    return within & (field > np.quantile(field[within], 1 - share))


def _spots_inside(tissue: np.ndarray) -> np.ndarray:
    """Array coordinates (N, 2), x then y, of the spots that lie in the tissue."""
    y, x = np.mgrid[_FIRST : _FIRST + _ROWS, _FIRST : _FIRST + _COLUMNS]
    xy = np.column_stack([x.ravel(), y.ravel()])
    interior = ndimage.binary_erosion(tissue, iterations=_SPOT_CELLS // 3)
    return xy[_sample(interior, (xy - _FIRST + _MARGIN) * SPOT_PIXELS)]


def _nuisance(rng: np.random.Generator, raster: np.ndarray, spots: float) -> np.ndarray:
    """A smooth field (h, w) of wavelength `spots` with mean 0 in every region.

    A section has only a few patches of each region: without the centring, chance alone would make the
    field differ between two of them and so tell apart what is meant to be alike.
    """
    field = smooth_field(rng, raster.shape, spots * _SPOT_CELLS)
    for region in np.unique(raster):
        field[raster == region] -= field[raster == region].mean()
    return field


def _sample(raster: np.ndarray, pixel_xy: np.ndarray) -> np.ndarray:
    columns, rows = (pixel_xy // CELL_PIXELS).astype(int).T
    return raster[rows, columns]


def _uncertain(raster: np.ndarray, pixel_xy: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Spots that the pathologist leaves open: a quarter of those on a border, and few others."""
    reach = 0.3 * SPOT_PIXELS
    around = [
        _sample(raster, pixel_xy + np.array(step) * reach) for step in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    border = (np.stack(around) != _sample(raster, pixel_xy)).any(axis=0)
    return rng.uniform(size=len(pixel_xy)) < np.where(border, 0.25, 0.01)


def _programmes(
    regions: np.ndarray, raster: np.ndarray, pixel_xy: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(N, P) programme weights: the region's mean with cell-to-cell spread, and smooth nuisance."""
    means = {
        region: [weights.get(p, 0.0) for p in REGION_PROGRAMMES] for region, (_, weights) in REGIONS.items()
    }
    mean = np.array([means[region] for region in regions])
    of_region = mean + rng.normal(0, 0.35, size=mean.shape)
    nuisance = [_sample(_nuisance(rng, raster, 5.0), pixel_xy) for _ in NUISANCE_PROGRAMMES]
    return np.column_stack([of_region, 0.5 * np.column_stack(nuisance)])


def _counts(
    programmes: np.ndarray,
    capture: np.ndarray,
    of_genes: np.random.Generator,
    of_patient: np.random.Generator,
    rng: np.random.Generator,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Gene names and (N, G) int32 negative binomial counts with dropout."""
    names = [f"{p}{i:02d}" for p in REGION_PROGRAMMES + NUISANCE_PROGRAMMES for i in range(_PROGRAMME_GENES)]
    names += [f"GENE{i:04d}" for i in range(_BACKGROUND_GENES)]
    loadings = np.zeros((programmes.shape[1], len(names)))
    for programme in range(len(loadings)):
        own = slice(programme * _PROGRAMME_GENES, (programme + 1) * _PROGRAMME_GENES)
        loadings[programme, own] = of_genes.gamma(4.0, 0.25, size=_PROGRAMME_GENES)
    abundance = of_genes.lognormal(0, 1.1, size=len(names))
    abundance *= of_patient.lognormal(0, 0.3, size=len(names))
    rate = abundance * np.exp(programmes @ loadings)
    rate /= rate.sum(axis=1, keepdims=True)
    library = 1300 * capture * rng.lognormal(0, 0.35, size=len(programmes))
    mean = rate * library[:, None]
    counts = rng.poisson(mean * rng.gamma(2.0, 0.5, size=mean.shape))
    counts[rng.uniform(size=counts.shape) < 0.1] = 0
    return tuple(names), counts.astype(np.int32)

"""What tells the regions of one section apart, in a form that regions of other sections can be compared with.

Every gene, and every image feature, is standardised over the section's spots before a region's mean is taken.
So what all spots of a section share, a batch, a stain or a patient's own level of a gene, cancels, and a
profile says how a region differs from the rest of its section.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError


@dataclass(frozen=True)
class RegionProfiles:
    """What tells the k regions of one section apart: G genes, F image features."""

    sample: str
    patient: str
    encoder: str
    """Of the image features; those of different encoders are not compared."""
    genes: tuple[str, ...]
    """(G,) most dispersed first."""
    sizes: np.ndarray
    """(k,) spots of each region."""
    expression: np.ndarray
    """(k, G) float32 mean of the standardised log expression; 0 is the section's mean."""
    image: np.ndarray | None
    """(k, F) float32 mean of the standardised image features; None without an image."""
    halves: np.ndarray
    """(2, k, G) float32 as `expression`, over every other spot of each region and over the rest."""
    image_halves: np.ndarray | None
    """(2, k, F) float32."""


def region_profiles(sample: Sample, regions: np.ndarray) -> RegionProfiles:
    """Profile the regions of a section; regions (N,) from 0, keys.NO_REGION for spots left out.

    Raises SencaError for regions that are not the section's or not numbered without a gap.
    """
    if len(regions) != len(sample.xy):
        raise SencaError(
            f"{sample.name}: {len(regions)} regions found; expected one for each of the "
            f"{len(sample.xy)} spots; pass the regions of the same section"
        )
    clustered = regions != keys.NO_REGION
    own = regions[clustered].astype(int)
    sizes = np.bincount(own)
    if not sizes.all():
        raise SencaError(
            f"{sample.name}: no spot is in region {int(np.argmin(sizes))} of {len(sizes)}; expected regions "
            "numbered without a gap; renumber them"
        )
    scale = sample.target_sum / np.maximum(sample.total_counts[clustered], 1)
    expression = csr_matrix(sample.counts[clustered].multiply(scale[:, None])).log1p()
    # Every other spot of a region, in the section's order, so that both halves cover the region.
    turn = pd.Series(own).groupby(own).cumcount().to_numpy() % 2
    groups = [_members(own, np.ones(len(own), dtype=bool)), *(_members(own, turn == half) for half in (0, 1))]
    of_genes = _standardised_means(expression, groups)
    of_image = None
    if sample.image_features is not None:
        features = csr_matrix(sample.image_features[clustered].astype(np.float64))
        of_image = _standardised_means(features, groups)
    return RegionProfiles(
        sample=sample.name,
        patient=sample.patient,
        encoder=sample.encoder,
        genes=sample.genes,
        sizes=sizes,
        expression=of_genes[0],
        image=None if of_image is None else of_image[0],
        halves=of_genes[1:],
        image_halves=None if of_image is None else of_image[1:],
    )


def _members(regions: np.ndarray, chosen: np.ndarray) -> csr_matrix:
    """(k, N) weights that take the mean over the chosen spots of every region; a row of 0 without any."""
    shape = (int(regions.max(initial=-1)) + 1, len(regions))
    counts = np.bincount(regions[chosen], minlength=shape[0])
    spots = np.flatnonzero(chosen)
    return csr_matrix((1 / counts[regions[spots]], (regions[spots], spots)), shape=shape)


def _standardised_means(values: csr_matrix, groups: Sequence[csr_matrix]) -> np.ndarray:
    """(M, k, V) means of M groupings of the spots, of values (N, V) standardised over all spots.

    A constant column and a region without spots give 0: they tell nothing.
    """
    if not values.shape[0]:
        return np.zeros((len(groups), 0, values.shape[1]), dtype=np.float32)
    mean = np.asarray(values.mean(axis=0)).ravel()
    variance = np.asarray(values.multiply(values).mean(axis=0)).ravel() - mean**2
    # A variance that only rounding makes is none.
    varies = variance > 1e-9 * np.maximum(mean**2, 1e-12)
    spread = np.sqrt(np.where(varies, variance, 1))
    filled = [np.asarray(weights.sum(axis=1)) for weights in groups]
    means = [
        ((weights @ values).toarray() - mean * full) * varies / spread
        for weights, full in zip(groups, filled, strict=True)
    ]
    return np.stack(means).astype(np.float32)

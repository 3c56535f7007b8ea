"""How good the regions of one section are, with and without the pathologist's labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.spatial import KDTree
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
    silhouette_score,
)
from sklearn.metrics.cluster import contingency_matrix

from senca_ray import keys
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.fit.cells import sampled_rows

PAS_NEIGHBORS, PAS_DIFFERENT = 10, 6
SILHOUETTE_SPOTS = 5_000
"""Spots from which the silhouette of a large section is estimated, all distances among which are computed."""


def score(
    sample: Sample,
    embedding: np.ndarray | None,
    regions: np.ndarray,
    pair: tuple[str, str] | None = None,
    undetermined: bool = False,
    form: str = keys.EXACT,
) -> dict[str, Any]:
    """Score the regions of one section, in which every spot has one.

    Spots labelled `undetermined` are left out of what compares with labels, unless `undetermined` is set:
    then that is a label like any other.

    Shapes: embedding (N, D), or None for regions that come from none (no silhouette then); regions (N,)
    integers; form as in `silhouette`. Returns keys.ARI, NMI, SILHOUETTE, CHAOS, PAS
    (floats, NaN where undefined), N_SPOTS, N_SCORED, LABEL_F1 (label -> F1) and PAIR_AMI, the last two
    None where they do not apply. Without labels only the label-free scores are numbers.
    Raises SencaError when the arrays do not belong to the section.
    """
    n_spots = len(sample.xy)
    n_rows = n_spots if embedding is None else len(embedding)
    if len(regions) != n_spots or n_rows != n_spots:
        raise SencaError(
            f"{sample.name}: {len(regions)} regions and {n_rows} embedding rows found; "
            f"expected one for each of the {n_spots} spots; pass the arrays of the same section"
        )
    result: dict[str, Any] = {
        keys.ARI: math.nan,
        keys.NMI: math.nan,
        keys.SILHOUETTE: math.nan if embedding is None else silhouette(embedding, regions, form),
        keys.CHAOS: chaos(sample.xy, regions),
        keys.PAS: pas(sample.nearest(PAS_NEIGHBORS), regions),
        keys.N_SPOTS: n_spots,
        keys.N_SCORED: 0,
        keys.LABEL_F1: None,
        keys.PAIR_AMI: None,
    }
    if sample.labels is None:
        return result
    scored = (sample.labels != keys.UNDETERMINED) | undetermined
    labels, regions = sample.labels[scored], regions[scored]
    result[keys.N_SCORED] = len(labels)
    result[keys.LABEL_F1] = label_f1(labels, regions)
    if pair is not None:
        result[keys.PAIR_AMI] = pair_ami(labels, regions, pair)
    # With a single label every score of agreement is decided beforehand (scikit-learn calls it 1 or 0).
    if len(np.unique(labels)) >= 2:
        result[keys.ARI] = float(adjusted_rand_score(labels, regions))
        result[keys.NMI] = float(normalized_mutual_info_score(labels, regions))
    return result


def silhouette(embedding: np.ndarray, regions: np.ndarray, form: str = keys.EXACT) -> float:
    """Mean silhouette of the regions in the embedding (Euclidean); NaN unless 2 <= regions < N.

    In the form keys.LARGE of SILHOUETTE_SPOTS spots, always the same ones.
    """
    if form == keys.LARGE:
        chosen = sampled_rows(len(regions), SILHOUETTE_SPOTS)
        embedding, regions = embedding[chosen], regions[chosen]
    if not 2 <= len(np.unique(regions)) < len(regions):
        return math.nan
    return float(silhouette_score(embedding, regions))


def chaos(xy: np.ndarray, regions: np.ndarray) -> float:
    """CHAOS: distance of a spot to the nearest one of its region, summed and divided by all N spots.

    xy (N, 2) in spot distances, and so is the result; the source standardises the coordinates instead.
    A region of one spot adds nothing to the sum. Source: Shang & Zhou, Nature Communications 2022
    (SpatialPCA), Methods.
    """
    total = 0.0
    for region in np.unique(regions):
        inside = xy[regions == region]
        if len(inside) > 1:
            distances, _ = KDTree(inside).query(inside, k=2)
            total += float(distances[:, 1].sum())
    return total / len(regions)


def pas(neighbors: np.ndarray, regions: np.ndarray) -> float:
    """PAS: share of spots whose region differs from that of at least 6 of their 10 nearest spots.

    Shapes: neighbors (N, 10), the spot itself left out; regions (N,). Source: Shang & Zhou, Nature
    Communications 2022 (SpatialPCA), Methods.
    """
    different = (regions[neighbors] != regions[:, None]).sum(axis=1)
    return float((different >= PAS_DIFFERENT).mean())


def label_f1(labels: np.ndarray, regions: np.ndarray) -> dict[str, float]:
    """Recovery of each label: the largest F1 that any single region reaches for it, over scored spots."""
    if len(labels) == 0:
        return {}
    both = contingency_matrix(labels, regions)
    f1 = 2 * both / (both.sum(axis=1, keepdims=True) + both.sum(axis=0, keepdims=True))
    return dict(zip(np.unique(labels).tolist(), f1.max(axis=1).tolist(), strict=True))


def pair_ami(labels: np.ndarray, regions: np.ndarray, pair: tuple[str, str]) -> float | None:
    """How well the regions tell two labels apart: AMI over the spots of these labels only.

    Normalised by the smaller entropy, so that splitting a label over several regions is not punished:
    0 is no better than chance, 1 is told apart. None when a label is absent.
    """
    if pair[0] == pair[1]:
        raise SencaError(f"pair: {pair[0]!r} twice found; expected two different labels")
    chosen = np.isin(labels, pair)
    if len(np.unique(labels[chosen])) < 2:
        return None
    return float(adjusted_mutual_info_score(labels[chosen], regions[chosen], average_method="min"))

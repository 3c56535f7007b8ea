"""What the seeds of a trial agree on: one partition out of many, and how alike the many are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from senca_ray.errors import SencaError
from senca_ray.fit.regions import renumber


def consensus(partitions: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Combine S partitions of the same N spots into one of k regions, the largest being region 0.

    Co-association: two spots are as near as the share of partitions that put them into one region, and
    average linkage on the rest to 1 joins them. Needs N x N matrices: about 0.6 GB for 5,000 spots.
    Fewer than k regions come out where the partitions tell fewer groups of spots apart.
    Shapes: partitions S times (N,) integers; returns (N,) int16. The numbering of the regions and the
    order of the partitions do not matter. Raises SencaError for an impossible k or unequal lengths.
    """
    stacked = _stacked(partitions)
    n_spots = stacked.shape[1]
    if not 1 <= k <= n_spots:
        raise SencaError(f"k = {k} found; expected 1 to {n_spots}, the number of spots; change the k policy")
    # Spots that no partition separates must not be split to reach k: any split of them is arbitrary.
    k = min(k, len(np.unique(stacked, axis=1).T))
    if k == 1:
        return np.zeros(n_spots, dtype=np.int16)
    # Whole numbers until all are counted, so that the order of the partitions shows in no digit.
    apart = np.zeros((n_spots, n_spots))
    for partition in stacked:
        apart += partition[:, None] != partition
    apart /= len(stacked)
    model = AgglomerativeClustering(k, metric="precomputed", linkage="average")
    return renumber(model.fit_predict(apart))


def stability(partitions: Sequence[np.ndarray]) -> float:
    """Mean ARI over all pairs of S partitions of the same N spots, 1 where all agree.

    Shapes: partitions S times (N,) integers. Raises SencaError for fewer than two or unequal lengths.
    """
    stacked = _stacked(partitions)
    if len(stacked) < 2:
        raise SencaError("1 partition found; expected two or more seeds to compare; fit more seeds")
    pairs = [adjusted_rand_score(a, b) for a, b in itertools.combinations(stacked, 2)]
    return math.fsum(pairs) / len(pairs)  # not numpy's sum, which depends on the order


def _stacked(partitions: Sequence[np.ndarray]) -> np.ndarray:
    lengths = sorted({len(partition) for partition in partitions})
    if len(lengths) != 1:
        found = " and ".join(map(str, lengths)) or "no"
        raise SencaError(
            f"partitions of {found} spots found; expected one or more of the same section; "
            "combine the seeds of one section only"
        )
    return np.stack(partitions)

"""What the seeds of a trial agree on: one partition out of many, and how alike the many are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from senca_ray import keys
from senca_ray.errors import SencaError
from senca_ray.fit.linkage import cut, tree_of
from senca_ray.fit.regions import renumber

PATTERNS = 2_000
"""Largest groups of spots that no partition tells apart among which a large section's regions are sought."""
_DECIMALS = 12
"""Sums of agreement are compared to this many, so that float noise breaks no tie."""


def consensus(partitions: Sequence[np.ndarray], k: int, form: str = keys.EXACT) -> np.ndarray:
    """Combine S partitions of the same N spots into one of k regions, the largest being region 0.

    Co-association: two spots are as near as the share of partitions that put them into one region, and
    average linkage on the rest to 1 joins them. Needs N x N matrices: about 0.6 GB for 5,000 spots. In the
    form keys.LARGE spots that no partition tells apart are one group of their size, of which the PATTERNS
    largest are joined; what else there is goes first to the group that most partitions put it with.
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
    if form == keys.LARGE:
        return _of_patterns(stacked, k)
    # Whole numbers until all are counted, so that the order of the partitions shows in no digit.
    apart = np.zeros((n_spots, n_spots))
    for partition in stacked:
        apart += partition[:, None] != partition
    apart /= len(stacked)
    model = AgglomerativeClustering(k, metric="precomputed", linkage="average")
    return renumber(model.fit_predict(apart))


def _of_patterns(stacked: np.ndarray, k: int) -> np.ndarray:
    """The consensus of partitions (S, N) by the patterns that spots share: the regions they have in all."""
    found, first, of, sizes = np.unique(
        stacked, axis=1, return_index=True, return_inverse=True, return_counts=True
    )
    # Largest first, of equals the one whose first spot comes first: no numbering or order shows in it.
    order = np.lexsort((first, -sizes))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    patterns, sizes = found.T[order], sizes[order]
    chosen = patterns[:PATTERNS]
    group = np.arange(len(patterns))
    for start in range(PATTERNS, len(patterns), PATTERNS):
        rest = slice(start, start + PATTERNS)
        group[rest] = _apart(patterns[rest], chosen).argmin(axis=1)
    apart = _apart(chosen, chosen) / len(stacked)
    steps = tree_of(apart, np.bincount(group, weights=sizes), "average")
    return renumber(cut(steps, k)[group][rank[of.ravel()]])


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """How many partitions put pattern i of (P, S) and pattern j of (Q, S) into different regions, (P, Q)."""
    apart = np.zeros((len(first), len(second)))
    for one, other in zip(first.T, second.T, strict=True):
        apart += one[:, None] != other
    return apart


Agreement = dict[tuple[int, int], float]
"""ARI of every pair of partitions, by their indices."""


def agreement(partitions: Sequence[np.ndarray]) -> Agreement:
    """ARI of all pairs of S partitions of the same N spots: what `stability` and `typical` go by.

    Shapes: partitions S times (N,) integers. Raises SencaError for none or unequal lengths.
    """
    stacked = _stacked(partitions)
    pairs = itertools.combinations(range(len(stacked)), 2)
    return {(i, j): float(adjusted_rand_score(stacked[i], stacked[j])) for i, j in pairs}


def stability(pairs: Agreement) -> float:
    """Mean ARI over all pairs, 1 where all partitions agree; raises SencaError where there is no pair."""
    if not pairs:
        raise SencaError("1 partition found; expected two or more seeds to compare; fit more seeds")
    return math.fsum(pairs.values()) / len(pairs)  # not numpy's sum, which depends on the order


def typical(pairs: Agreement) -> int:
    """Index of the partition that agrees best with all others, by its mean ARI; of equals the first."""
    numbers = sorted({i for pair in pairs for i in pair}) or [0]
    sums = {n: math.fsum(ari for pair, ari in pairs.items() if n in pair) for n in numbers}
    return max(numbers, key=lambda n: (round(sums[n], _DECIMALS), -n))


def _stacked(partitions: Sequence[np.ndarray]) -> np.ndarray:
    lengths = sorted({len(partition) for partition in partitions})
    if len(lengths) != 1:
        found = " and ".join(map(str, lengths)) or "no"
        raise SencaError(
            f"partitions of {found} spots found; expected one or more of the same section; "
            "combine the seeds of one section only"
        )
    return np.stack(partitions)

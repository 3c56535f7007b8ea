"""Leiden's communities in an embedding, as many as asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_matrix, triu
from scipy.spatial.distance import cdist

from senca_ray.fit.regions import renumber

if TYPE_CHECKING:
    import igraph

_GRAPH_NEIGHBORS = 14
"""Nearest spots that a spot is joined to in Leiden's graph: scanpy's 15, which count the spot itself."""
_LEAST_SCALE = 1e-3
"""Least scale on which the weights of that graph fall, as a share of the mean distance."""
_HALVINGS = 64
"""Steps in which the scale is found."""
_EXPONENTS = (-16.0, 20.0)
"""Resolutions of Leiden that are searched, as powers of 2: from one region to every spot its own."""
_NARROW = 2.0**-6
"""Width in exponents at which the search for a resolution ends."""


def leiden(values: np.ndarray, seed: int) -> Callable[[int], np.ndarray]:
    """What divides an embedding (N, D) into k regions (N,), numbered in any order.

    The partition of a resolution is computed once for all k. Source: Traag et al., Scientific Reports 2019.
    """
    import leidenalg

    graph, weights = neighbor_graph(values)

    @functools.cache
    def at(exponent: float) -> np.ndarray:
        partition = leidenalg.find_partition(
            graph,
            leidenalg.RBConfigurationVertexPartition,
            weights=weights,
            resolution_parameter=2.0**exponent,
            seed=seed,
        )
        return np.array(partition.membership)

    def divide(k: int) -> np.ndarray:
        low, high = _EXPONENTS
        above = at(low)
        if above.max() + 1 < k:
            above = at(high)
            while high - low > _NARROW and above.max() + 1 > k:
                middle = (low + high) / 2
                if at(middle).max() + 1 < k:
                    low = middle
                else:
                    high, above = middle, at(middle)
        return _join(values, above, k)

    return divide


def neighbor_graph(values: np.ndarray) -> tuple[igraph.Graph, np.ndarray]:
    """Spots joined where one is among the nearest of the other in the embedding (N, D), and the weights.

    A neighbour at distance d of a spot weighs exp(-(d - r) / s), with r the distance of the nearest one not
    alike and s such that a spot's weights sum to log2 of the size of its neighbourhood, itself included. Two
    weights a, b of one edge give a + b - ab. Source: McInnes et al., arXiv 2018 (UMAP), section 3.1.
    """
    import igraph
    from sklearn.neighbors import NearestNeighbors

    count = min(_GRAPH_NEIGHBORS, len(values) - 1)
    if count == 0:
        return igraph.Graph(1), np.ones(0)
    distances, near = NearestNeighbors(n_neighbors=count).fit(values).kneighbors()
    beyond = distances - np.where(distances > 0, distances, np.inf).min(axis=1, initial=np.inf)[:, None]
    # Equal rows alone around a spot: nothing lies beyond them.
    beyond = np.where(np.isfinite(beyond), np.maximum(beyond, 0), 0)
    weights = csr_matrix(
        (_falling(beyond, distances).ravel(), near.ravel(), np.arange(0, near.size + 1, count)),
        shape=(len(values),) * 2,
    )
    both = triu(weights + weights.T - weights.multiply(weights.T)).tocoo()
    present = both.data > 0
    edges = np.column_stack([both.row, both.col])[present]
    return igraph.Graph(len(values), edges.tolist()), both.data[present]


def _falling(beyond: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """exp(-beyond / s) with the s of every row found by bisection; shapes (N, K)."""
    wanted = np.log2(beyond.shape[1] + 1)
    low = np.full((len(beyond), 1), _LEAST_SCALE) * np.maximum(distances.mean(), np.finfo(float).tiny)
    # At this scale no weight is below exp(-1 / K): they sum to more than is wanted.
    high = np.maximum(low, beyond.max(axis=1, keepdims=True) * beyond.shape[1])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = np.exp(-beyond / middle).sum(axis=1, keepdims=True) > wanted
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.exp(-beyond / high)


def _join(values: np.ndarray, regions: np.ndarray, k: int) -> np.ndarray:
    """Join regions (N,) until k are left: always the two whose union costs least in Ward's sense."""
    while regions.max() >= k:
        regions = renumber(regions)
        sizes = np.bincount(regions)
        centres = np.stack([values[regions == region].mean(axis=0) for region in range(len(sizes))])
        cost = cdist(centres, centres, "sqeuclidean") / (1 / sizes[:, None] + 1 / sizes)
        np.fill_diagonal(cost, np.inf)
        one, other = np.unravel_index(cost.argmin(), cost.shape)
        regions = renumber(np.where(regions == other, one, regions))
    return regions

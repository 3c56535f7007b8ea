"""Clustering of large sections: of cells, small groups of spots that lie together in the embedding."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

from senca_ray.fit.linkage import cut, linkage_of

CELLS = 2_000
"""Cells of a section: the tree of so many takes a second."""
SAMPLED = 50_000
"""Spots, drawn at random, that the centres of cells are learnt from, and a mixture."""
_ROUNDS, _STARTS = 10, 10
"""Rounds of k-means that make the cells, and starts of the k-means that divides them."""


@dataclass(frozen=True)
class Cells:
    """N spots in L cells."""

    centres: np.ndarray
    """(L, D) mean of the spots of each cell."""
    sizes: np.ndarray
    """(L,) spots of each cell, none of them empty."""
    of: np.ndarray
    """(N,) the cell of each spot."""


def cells_of(values: np.ndarray) -> Cells:
    """Divide the spots of an embedding (N, D) into about CELLS cells; of no more spots, equal ones.

    The same embedding gives the same cells: nothing depends on the seed of a trial.
    """
    if len(values) <= CELLS:
        centres, of, sizes = np.unique(values, axis=0, return_inverse=True, return_counts=True)
        return Cells(centres, sizes, of)
    model = KMeans(CELLS, init="random", n_init=1, max_iter=_ROUNDS, random_state=0)
    with warnings.catch_warnings():
        # Says that rounds or distinct spots are few: cells need not be the best ones, nor so many.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = model.fit(sampled(values, SAMPLED)).predict(values)
    _, of, sizes = np.unique(found, return_inverse=True, return_counts=True)
    order = np.argsort(of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return Cells(np.add.reduceat(values[order], starts) / sizes[:, None], sizes, of)


def sampled(values: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, the same at every call, in their order."""
    return values[sampled_rows(len(values), most)]


def sampled_rows(n_rows: int, most: int) -> np.ndarray:
    """Indices of at most `most` of the rows, rising; the same at every call."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(0).choice(n_rows, most, replace=False))


def joined(cells: Cells, linkage: str) -> Callable[[int], np.ndarray]:
    """What divides the spots into k regions (N,) by agglomerative clustering of their cells."""
    steps = linkage_of(cells.centres, cells.sizes, linkage)
    return lambda k: cut(steps, min(k, len(cells.sizes)))[cells.of]


def kmeans(values: np.ndarray, cells: Cells, k: int, seed: int) -> np.ndarray:
    """k-means of the spots (N, D) that starts from the best of ten of their cells; returns regions (N,)."""
    with warnings.catch_warnings():
        # Of fewer distinct rows than k, as in the exact form.
        warnings.simplefilter("ignore", ConvergenceWarning)
        k = min(k, len(cells.sizes))
        start = KMeans(k, n_init=_STARTS, random_state=seed).fit(cells.centres, sample_weight=cells.sizes)
        return KMeans(k, init=start.cluster_centers_, n_init=1, random_state=seed).fit_predict(values)

"""The spatial graph: each spot's nearest neighbours in an order of which every prefix is a graph."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import BallTree

_DECIMALS = 6
"""Distances are compared after rounding to this many decimals of a spot distance."""


def nearest_neighbors(xy: np.ndarray, neighbors: int) -> np.ndarray:
    """Return every spot's nearest neighbours, itself left out.

    They are ordered by (distance rounded to 1e-6 spot distances, spot index), and all candidates tied
    at the last place are examined, so the first k columns are what asking for k would give, also on
    integer grids where most distances tie.

    Shapes: xy (N, 2) in spot distances, no two spots alike. Returns (N, neighbors) int32.
    Raises ValueError for fewer than neighbors + 1 spots. Source: SENCA-st section 3.1 (ball tree).
    """
    if len(xy) < neighbors + 1:
        raise ValueError(f"{len(xy)} spots; {neighbors} neighbours need at least {neighbors + 1}")
    tree = BallTree(xy)
    farthest = tree.query(xy, k=neighbors + 1)[0][:, -1]
    within = np.round(farthest, _DECIMALS) + 10.0**-_DECIMALS
    candidates, distances = tree.query_radius(xy, r=within, return_distance=True)
    result = np.empty((len(xy), neighbors), dtype=np.int32)
    for spot, (found, distance) in enumerate(zip(candidates, distances, strict=True)):
        order = np.lexsort((found, np.round(distance, _DECIMALS)))
        ordered = found[order]
        result[spot] = ordered[ordered != spot][:neighbors]
    return result

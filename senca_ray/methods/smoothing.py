"""What simple methods do to values before anything else: standardise them, smooth them over neighbours."""

from __future__ import annotations

import numpy as np

from senca_ray.data.sample import Sample

_REACH = 1.1
"""How much farther than usual a neighbour may lie: positions off the array's grid are still one step away."""


def smoothed(sample: Sample, values: np.ndarray, neighbors: int) -> np.ndarray:
    """Average every spot's values (N, D) with those of its neighbours; returns (N, D).

    A spot's neighbours are its `neighbors` nearest that lie no farther than 1.1 times the distance within
    which the median spot has that many. On a square array those are the 4 beside it, or the 8 around
    it; at the rim of the tissue there are fewer, where the nearest alone would reach across to spots
    two steps away.
    """
    near = sample.nearest(neighbors)
    distances = np.linalg.norm(sample.xy[near] - sample.xy[:, None], axis=2)
    beside = distances <= _REACH * np.median(distances.max(axis=1))
    return neighborhood_mean(values, near, beside)


def neighborhood_mean(
    values: np.ndarray, neighbors: np.ndarray, counted: np.ndarray | bool = True
) -> np.ndarray:
    """Average every spot's values with those of its neighbours that are counted.

    Shapes: values (N, D), neighbors (N, K) indices without the spot itself, counted (N, K) bool.
    Returns (N, D).
    """
    counted = np.broadcast_to(counted, neighbors.shape)
    total = values.copy()
    # One neighbour at a time: all at once would hold the values K times over.
    for near, taking_part in zip(neighbors.T, counted.T, strict=True):
        total[taking_part] += values[near[taking_part]]
    return total / (counted.sum(axis=1, keepdims=True) + 1)


def standardised(values: np.ndarray) -> np.ndarray:
    """Every column of values (N, D) with mean 0 and variance 1; a constant column with 0."""
    centred = values - values.mean(axis=0)
    spread = values.std(axis=0)
    # Of a constant column rounding alone may leave a spread.
    constant = (values == values[0]).all(axis=0)
    return np.where(constant, 0, centred / np.where(constant | (spread == 0), 1, spread))

"""The neighbourhood mean that simple methods smooth with."""

from __future__ import annotations

import numpy as np


def neighborhood_mean(values: np.ndarray, neighbors: np.ndarray) -> np.ndarray:
    """Average every spot's values with those of its neighbours.

    Shapes: values (N, D), neighbors (N, K) indices without the spot itself. Returns (N, D).
    """
    return (values + values[neighbors].sum(axis=1)) / (neighbors.shape[1] + 1)

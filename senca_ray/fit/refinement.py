"""Refinement: regions smoothed over the tissue after clustering, as some published methods do."""

from __future__ import annotations

import numpy as np

from senca_ray.errors import SencaError
from senca_ray.fit.regions import renumber


def refine(regions: np.ndarray, neighbors: np.ndarray, rounds: int = 1) -> np.ndarray:
    """Give a spot the region of most of its neighbours, where they outvote it.

    A spot whose own region holds fewer than half of its neighbours, while another one holds more than half,
    takes that one. All spots of a round look at the regions as they were before it, so the order of the
    spots does not matter. A region may lose all its spots: then fewer regions are left.

    Shapes: regions (N,) integers of 0 or more; neighbors (N, K) indices, the spot itself left out: 4 on a
    square array, 6 on a hexagonal one. Returns (N,) int16, the largest region being 0. Raises SencaError for
    arrays of different sections. Source: Hu et al., Nature Methods 2021 (SpaGCN), refinement.
    """
    if len(regions) != len(neighbors):
        raise SencaError(
            f"{len(regions)} regions and neighbours of {len(neighbors)} spots found; expected one region a "
            "spot; pass the arrays of the same section"
        )
    refined = renumber(regions)
    votes_needed = neighbors.shape[1] / 2
    for _ in range(rounds):
        around = refined[neighbors]
        votes = np.stack([(around == region).sum(axis=1) for region in range(refined.max() + 1)], axis=1)
        refined = np.where(votes.max(axis=1) > votes_needed, votes.argmax(axis=1), refined)
    return renumber(refined)

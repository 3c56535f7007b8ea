"""Random contiguous regions: the score of a partition that knows nothing but looks like one of tissue."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from scipy.spatial import KDTree

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, RegionMethod


class RandomRegions(RegionMethod):
    """k regions grown spot by spot from k random spots, over each spot's 4 nearest."""

    name = "random-regions"
    title = "null: contiguous regions grown at random from k random spots"
    kind = keys.NULL
    modality = "coordinates"
    settings = MappingProxyType({"neighbors": 4})
    clusterings = (keys.OWN,)

    def genes_needed(self, setting: Setting) -> int:
        """One: expression is not used."""
        return 1

    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        """Return the positions (N, 2) as embedding, and k regions; raises SencaError for an impossible k."""
        n_spots = len(sample.xy)
        if not 1 <= k <= n_spots:
            raise SencaError(
                f"{sample.name}: k = {k} found; expected 1 to {n_spots}, the number of spots; "
                "change the k policy"
            )
        regions = grow(sample.xy, sample.nearest(self.settings["neighbors"]), k, seed)
        return Embedding(sample.xy, regions=regions)


def grow(xy: np.ndarray, neighbors: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Grow k regions (N,) from k random spots: one random spot beside any region at a time.

    Spots are beside each other where one is among the other's neighbours, and every region is contiguous in
    that sense. Where the tissue falls into parts and no region started in one, the region nearest to it goes
    on there. Shapes: xy (N, 2), neighbors (N, K) indices.
    """
    rng = np.random.default_rng(seed)
    beside: list[set[int]] = [set(row) for row in neighbors.tolist()]
    for spot, row in enumerate(neighbors.tolist()):
        for near in row:
            beside[near].add(spot)
    regions = np.full(len(xy), -1)
    rim: list[tuple[int, int]] = []  # steps that can be taken: a spot and the region it would join

    def join(spot: int, region: int) -> None:
        regions[spot] = region
        rim.extend((near, region) for near in sorted(beside[spot]) if regions[near] < 0)

    for region, spot in enumerate(rng.choice(len(xy), k, replace=False).tolist()):
        join(spot, region)
    while rim or (regions < 0).any():
        if not rim:
            free, taken = np.flatnonzero(regions < 0), np.flatnonzero(regions >= 0)
            gaps, nearest = KDTree(xy[taken]).query(xy[free])
            closest = int(gaps.argmin())
            rim.append((int(free[closest]), int(regions[taken[nearest[closest]]])))
        step = int(rng.integers(len(rim)))
        rim[step], rim[-1] = rim[-1], rim[step]
        spot, region = rim.pop()
        if regions[spot] < 0:
            join(spot, region)
    return regions

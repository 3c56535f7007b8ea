"""Depth only: how far a method gets that knows how many transcripts were caught and not which."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.smoothing import smoothed


class Depth(Method):
    """k-means on the logarithm of a spot's total count, averaged over 8 neighbours."""

    name = "depth"
    title = "null: k-means on the 8-neighbour mean of log1p total counts alone"
    kind = keys.NULL
    modality = "total counts"
    settings = MappingProxyType({"neighbors": 8})
    clusterings = ("kmeans",)
    fixed_embedding = True

    def genes_needed(self, setting: Setting) -> int:
        """One: totals are stored."""
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the smoothed logarithm of the totals, (N, 1)."""
        depth = np.log1p(sample.total_counts.astype(np.float64))[:, None]
        return Embedding(smoothed(sample, depth, self.settings["neighbors"]))

"""Spatially smoothed PCA: the simple control that is hard to beat."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.pca import principal_components
from senca_ray.methods.smoothing import smoothed, standardised


class SmoothedPca(Method):
    """2,000 HVGs, z-score of at most 10, mean over a spot and its 4 neighbours, 15 principal components."""

    name = "smoothed-pca"
    title = "expression only: 2,000 HVGs, z-score, mean over 4 neighbours, PCA 15, k-means"
    settings = MappingProxyType({"hvgs": 2000, "highest_score": 10, "neighbors": 4, "components": 15})
    clusterings = ("kmeans", "gmm-tied", "ward", "leiden")
    fixed_embedding = True

    def genes_needed(self, setting: Setting) -> int:
        """2,000, whatever the setting."""
        return self.settings["hvgs"]

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the principal components, (N, 15) or as many as the section allows."""
        own = self.settings
        scores = standardised(sample.expression(min(own["hvgs"], len(sample.genes))))
        # A rare gene's single count is no finding: cut off where scanpy's users do.
        scores = np.minimum(scores, own["highest_score"])
        return Embedding(principal_components(smoothed(sample, scores, own["neighbors"]), own["components"]))

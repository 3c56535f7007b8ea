"""Spatially smoothed PCA with k-means: the simple control that is hard to beat."""

from __future__ import annotations

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.smoothing import neighborhood_mean

_HVGS, _NEIGHBORS, _COMPONENTS = 2000, 4, 15


class SmoothedPca(Method):
    """2,000 HVGs, z-score, mean over a spot and its 4 neighbours, 15 principal components."""

    name = "smoothed-pca"
    title = "expression only: 2,000 HVGs, z-score, mean over 4 neighbours, PCA 15, k-means"
    clusterings = ("kmeans",)

    def genes_needed(self, setting: Setting) -> int:
        """2,000, whatever the setting."""
        return _HVGS

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the principal components, (N, 15) or as many as the section allows."""
        from sklearn.decomposition import PCA

        genes = min(_HVGS, len(sample.genes))
        expression = sample.expression(genes)
        spread = expression.std(axis=0)
        scores = (expression - expression.mean(axis=0)) / np.where(spread > 0, spread, 1)
        smoothed = neighborhood_mean(scores, sample.nearest(_NEIGHBORS))
        components = min(_COMPONENTS, genes, len(smoothed) - 1)
        return Embedding(PCA(components, svd_solver="full").fit_transform(smoothed))

"""Principal components of expression: where every spot stands alone."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method


class Pca(Method):
    """2,000 HVGs, log1p, 15 principal components; no smoothing, so what smoothing adds can be told."""

    name = "pca"
    title = "expression only: 2,000 HVGs, log1p, PCA 15"
    settings = MappingProxyType({"hvgs": 2000, "components": 15})
    clusterings = ("kmeans", "gmm-tied", "ward", "leiden")
    fixed_embedding = True

    def genes_needed(self, setting: Setting) -> int:
        """2,000, whatever the setting."""
        return self.settings["hvgs"]

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the principal components, (N, 15) or as many as the section allows."""
        expression = sample.expression(min(self.settings["hvgs"], len(sample.genes)))
        return Embedding(principal_components(expression, self.settings["components"]))


def principal_components(values: np.ndarray, components: int) -> np.ndarray:
    """The spots' scores on the leading principal components of values (N, D), N of 2 or more.

    Returns (N, R) float64 with R = `components`, or N - 1 or D where that is less. Computed from the smaller
    one of the two matrices of products, which is many times faster than a full decomposition.
    """
    from scipy.linalg import eigh

    centred = np.asarray(values, dtype=np.float64) - values.mean(axis=0, dtype=np.float64)
    n_spots, n_values = centred.shape
    kept = min(components, n_spots - 1, n_values)
    by_spot = n_spots <= n_values
    products = centred @ centred.T if by_spot else centred.T @ centred
    variances, axes = eigh(products, subset_by_index=[len(products) - kept, len(products) - 1])
    axes = axes[:, ::-1]
    return axes * np.sqrt(np.maximum(variances[::-1], 0)) if by_spot else centred @ axes

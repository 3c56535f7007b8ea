"""Analytic Pearson residuals, smoothed: counts against what depth and gene alone would give."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from scipy.sparse import csr_matrix

from senca_ray.config import Setting
from senca_ray.data.sample import ALL_GENES, Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.pca import principal_components
from senca_ray.methods.smoothing import smoothed

_AT_ONCE = 2000
"""Genes whose residuals are held in memory together while their variances are compared."""


class Pearson(Method):
    """Pearson residuals of the 2,000 genes in which they vary most, 8-neighbour mean, 15 components.

    Residuals of all genes of the shard are compared, and a spot's total is over all of them. As published:
    theta 100, residuals clipped at the square root of the number of spots.
    """

    name = "pearson"
    title = "expression only: Pearson residuals, 2,000 most variable genes, mean over 8 neighbours, PCA 15"
    citation = "analytic Pearson residuals: Lause et al., Genome Biology 2021"
    settings = MappingProxyType({"genes": 2000, "theta": 100, "neighbors": 8, "components": 15})
    clusterings = ("kmeans", "gmm-tied", "ward", "leiden")
    fixed_embedding = True

    def genes_needed(self, setting: Setting) -> int:
        """All."""
        return ALL_GENES

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the principal components, (N, 15) or as many as the section allows."""
        own = self.settings
        residuals = variable_residuals(sample.counts, own["genes"], own["theta"])
        return Embedding(
            principal_components(smoothed(sample, residuals, own["neighbors"]), own["components"])
        )


def variable_residuals(counts: csr_matrix, genes: int, theta: float) -> np.ndarray:
    """Pearson residuals (N, genes) of the genes in which they vary most, in the order of the counts.

    With m = (spot's total) (gene's total) / (total) the residual of a count x is
    (x - m) / sqrt(m + m² / theta), clipped at ±sqrt(N); 0 where m is. Shapes: counts (N, G); where G is less
    than `genes`, all are returned. Source: Lause et al., Genome Biology 2021.
    """
    spot_totals = np.asarray(counts.sum(axis=1), dtype=np.float64).reshape(-1, 1)
    by_gene = counts.tocsc()
    bound = np.sqrt(counts.shape[0])

    def residuals(chosen: np.ndarray) -> np.ndarray:
        found = by_gene[:, chosen].toarray().astype(np.float64)
        expected = spot_totals * found.sum(axis=0) / max(spot_totals.sum(), 1)
        spread = np.sqrt(expected + expected**2 / theta)
        return np.clip((found - expected) / np.where(spread > 0, spread, 1), -bound, bound)

    every = np.arange(counts.shape[1])
    parts = [every[start : start + _AT_ONCE] for start in range(0, len(every), _AT_ONCE)]
    variances = np.concatenate([residuals(part).var(axis=0) for part in parts])
    return residuals(np.sort(np.argsort(-variances, kind="stable")[:genes]))

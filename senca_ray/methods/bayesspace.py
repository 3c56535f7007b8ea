"""BayesSpace, reimplemented: a Bayesian mixture on principal components with a spatial prior."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, diags_array

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, RegionMethod
from senca_ray.methods.potts import Prior, lattice, sample_regions

_ALL_GENES = 2**31 - 1
_CANDIDATES = 6
"""Neighbours of a spot on the densest lattice, the hexagonal one."""
_TREND_MEAN = 0.1
"""Genes of a lower mean do not take part in the fit of the trend: their counts are too discrete."""
_TREND_BINS = 200


class BayesSpace(RegionMethod):
    """2,000 HVGs, 15 principal components, t-distributed regions with a Potts prior, sampled by MCMC."""

    name = "bayesspace"
    title = "2,000 HVGs, PCA 15, mixture of t-distributed regions with a Potts prior (MCMC)"
    citation = "Zhao et al., Nature Biotechnology 2021"
    kind = keys.PUBLISHED
    source = keys.REIMPLEMENTED
    checked = "TODO"
    modality = "expression and coordinates"
    clusterings = (keys.OWN,)
    settings = MappingProxyType(
        {
            "hvgs": 2000,
            "components": 15,
            "initialisation": "gmm-tied",
            "iterations": 10_000,
            "burn_in": 1000,
            "gamma_square": 2.0,
            "gamma_hexagonal": 3.0,
            "degrees_of_freedom": 4.0,
            "lambda0": 0.01,
            "alpha": 1.0,
            "beta": 0.01,
        }
    )

    def genes_needed(self, setting: Setting) -> int:
        """All: its HVGs are not the shard's."""
        return _ALL_GENES

    def segment(self, sample: Sample, setting: Setting, seed: int, k: int) -> Embedding:
        """Return the components (N, 15), or as many as the section allows, and the most visited regions.

        Regions the chain left empty are missing, so there may be fewer than `k`. Raises SencaError for an
        impossible k, for a section without lattice neighbours or with too few genes.
        """
        from senca_ray.fit.regions import cluster

        n_spots = len(sample.xy)
        if not 1 <= k <= n_spots:
            raise SencaError(
                f"{sample.name}: k = {k} found; expected 1 to {n_spots}, the number of spots; "
                "change the k policy"
            )
        where = lattice(sample.xy, sample.nearest(min(_CANDIDATES, sample.neighbors.shape[1])))
        if not where.degree.any():
            raise SencaError(
                f"{sample.name}: {self.name} needs spots on a lattice; found none with a neighbour about "
                "one spot distance away; leave the method out"
            )
        values = self._components(sample)
        regions = cluster(values, k, self.settings["initialisation"], seed)
        if k > 1:
            visits = sample_regions(
                values,
                regions,
                k,
                where,
                self._prior(hexagonal=where.degree.max() > 4),
                self.settings["iterations"],
                self.settings["burn_in"],
                np.random.default_rng(seed),
            )
            regions = visits.argmax(axis=1)
        return Embedding(values, regions=regions)

    def _components(self, sample: Sample) -> np.ndarray:
        """(N, 15) principal components of the unscaled HVGs, or as many as the section allows."""
        from sklearn.decomposition import PCA

        expression = log_expression(sample)
        chosen = variable_genes(expression, self.settings["hvgs"])
        if len(chosen) == 0:
            raise SencaError(
                f"{sample.name}: no gene varies more than others of its mean, so {self.name} has no HVG; "
                "prepare the section with more genes"
            )
        components = min(self.settings["components"], len(chosen), len(sample.xy) - 1)
        pca = PCA(components, svd_solver="full")
        return np.asarray(pca.fit_transform(expression[:, chosen].toarray()))

    def _prior(self, hexagonal: bool) -> Prior:
        names = ("degrees_of_freedom", "lambda0", "alpha", "beta")
        own: dict[str, Any] = {name: self.settings[name] for name in names}
        return Prior(gamma=self.settings["gamma_hexagonal" if hexagonal else "gamma_square"], **own)


def log_expression(sample: Sample) -> csr_matrix:
    """(N, G) float64 log2(1 + count / size factor); size factors are total counts scaled to a mean of 1."""
    totals = np.maximum(sample.total_counts, 1).astype(np.float64)
    scaled = csr_matrix(diags_array(totals.mean() / totals) @ sample.counts)
    scaled.data = np.log2(scaled.data + 1)
    return scaled


def variable_genes(expression: csr_matrix, hvgs: int) -> np.ndarray:
    """Return up to `hvgs` genes whose variance exceeds most what their mean lets expect, largest first.

    Shapes: expression (N, G); returns indices. What is expected is a robust local regression of log variance
    on mean over bins of equal width, so that the few highly expressed genes count as much as the many
    others; below a mean of 0.1 it falls to zero in proportion. Raises SencaError without genes to fit it to.
    """
    from statsmodels.nonparametric.smoothers_lowess import lowess

    n_spots = expression.shape[0]
    mean = np.asarray(expression.mean(axis=0)).ravel()
    squares = np.asarray(expression.multiply(expression).mean(axis=0)).ravel()
    variance = np.maximum(squares - mean**2, 0) * n_spots / max(n_spots - 1, 1)
    fitted = (mean >= _TREND_MEAN) & (variance > 1e-8)
    if fitted.sum() < 10:
        raise SencaError(
            f"{fitted.sum()} genes with a mean log expression of {_TREND_MEAN} or more and any variance; "
            "expected 10 or more to tell which genes are highly variable; prepare with more genes"
        )
    edges = np.linspace(mean[fitted].min(), mean[fitted].max(), _TREND_BINS + 1)
    bins = np.digitize(mean[fitted], edges[1:-1])
    used = np.unique(bins)
    at = np.array([mean[fitted][bins == b].mean() for b in used])
    level = np.array([np.median(np.log(variance[fitted][bins == b])) for b in used])
    # Of fewer bins a local regression over 0.3 of them is no regression.
    trend = lowess(level, at, frac=0.3, it=3, return_sorted=False) if len(used) >= 10 else level
    expected = np.exp(np.interp(mean, at, trend)) * np.minimum(1, mean / at[0])
    excess = variance - expected
    ranked = np.argsort(-excess, kind="stable")[:hvgs]
    return ranked[excess[ranked] > 0]

"""Gene filter, normalisation and gene order (SENCA-st section 3.1)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from senca_ray.config import PrepareConfig
from senca_ray.data.section import RawSection
from senca_ray.errors import Problem, ProblemsError


@dataclass(frozen=True)
class Expression:
    """Counts of the genes that pass the filter, most dispersed gene first."""

    genes: tuple[str, ...]
    counts: csr_matrix
    """(N, G) int32 raw counts."""
    dispersion: np.ndarray
    """(G,) float64 normalised dispersion, falling; NaN (no dispersion: constant genes) at the end."""


def order_genes(section: RawSection, config: PrepareConfig) -> Expression:
    """Drop rare genes and order the rest by normalised dispersion, ranked once on all of them.

    The dispersion is scanpy's, on log1p of counts scaled to `target_sum` a spot. Ties keep the order
    of the counts file. Raises ProblemsError when no gene is left.
    """
    totals = np.asarray(section.counts.sum(axis=0)).ravel()
    spots = (section.counts > 0).getnnz(axis=0)
    kept = np.flatnonzero((totals >= config.min_gene_count) & (spots >= config.min_gene_spots))
    if len(kept) == 0:
        message = (
            f"0 of {len(totals)} genes have a total count of {config.min_gene_count} or more in "
            f"{config.min_gene_spots} spots or more; expected at least one; check the counts or lower "
            "min_gene_count and min_gene_spots"
        )
        place = section.files.place(section.files.counts)
        raise ProblemsError([Problem(section.files.sample, place, message)], "1 section")
    counts = section.counts[:, kept]
    dispersion = normalised_dispersion(counts, config)
    order = np.argsort(-np.nan_to_num(dispersion, nan=-np.inf), kind="stable")
    return Expression(
        genes=tuple(section.genes[kept[i]] for i in order),
        counts=csr_matrix(counts[:, order]),
        dispersion=dispersion[order],
    )


def normalised_dispersion(counts: csr_matrix, config: PrepareConfig) -> np.ndarray:
    """Return scanpy's normalised dispersion of each gene. Shapes: counts (N, G); returns (G,)."""
    import anndata
    import scanpy

    data = anndata.AnnData(counts.astype(np.float32))
    with warnings.catch_warnings():
        # Spots without any count, and bins of a single gene, are ordinary here and handled below.
        warnings.simplefilter("ignore")
        scanpy.pp.normalize_total(data, target_sum=config.target_sum)
        scanpy.pp.log1p(data)
        table = scanpy.pp.highly_variable_genes(data, flavor=config.hvg_flavor, inplace=False)
    dispersion = table["dispersions_norm"].to_numpy(dtype=np.float64)
    return np.where(np.isfinite(dispersion), dispersion, np.nan)

"""STAGATE on one section: 3,000 HVGs, a spatial network by radius, the package's training."""

from __future__ import annotations

from typing import Any

import numpy as np
import scanpy as sc
import torch
from anndata import AnnData
from STAGATE_pyG import Cal_Spatial_Net, train_STAGATE


def fit(section: Any, settings: dict[str, Any], seed: int, k: int | None) -> tuple[np.ndarray, None]:
    """Return STAGATE's embedding (N, 30); no regions: the package finds them with mclust, which needs R."""
    torch.use_deterministic_algorithms(True)
    adata = AnnData(section.counts.astype(np.float32))
    adata.var_names = section.genes
    adata.obsm["spatial"] = section.xy
    sc.pp.highly_variable_genes(adata, flavor="seurat_v3", n_top_genes=min(settings["hvgs"], adata.n_vars))
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    Cal_Spatial_Net(adata, rad_cutoff=settings["radius"], verbose=False)
    train_STAGATE(
        adata,
        hidden_dims=list(settings["hidden"]),
        n_epochs=settings["epochs"],
        random_seed=seed,
        device="cpu",
        verbose=False,
    )
    return adata.obsm["STAGATE"], None

"""SpaGCN without histology, in the order of steps of the package's `detect_spatial_domains_ez_mode`."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import scanpy as sc
import SpaGCN
import torch
from anndata import AnnData


def fit(section: Any, settings: dict[str, Any], seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the graph convolution's output (N, pcs) and SpaGCN's own domains (N,)."""
    torch.use_deterministic_algorithms(True)
    # Dense, because the package asks sparse matrices for `.A`, which newer ones do not have.
    adata = AnnData(section.counts.toarray().astype(np.float32))
    adata.var_names = section.genes
    x, y = section.xy.T.tolist()
    distances = SpaGCN.calculate_adj_matrix(x=x, y=y, histology=False)
    SpaGCN.prefilter_genes(adata, min_cells=settings["min_cells"])
    SpaGCN.prefilter_specialgenes(adata)
    # At its default of 1 it drops spots of which only the genes left out were seen; every spot has to stay.
    sc.pp.normalize_per_cell(adata, min_counts=0)
    sc.pp.log1p(adata)
    length = SpaGCN.search_l(settings["p"], distances, start=0.01, end=1000, tol=0.01, max_run=100)
    learning = {"tol": settings["tol"], "lr": settings["lr"]}
    seeds = {"r_seed": seed, "t_seed": seed, "n_seed": seed}
    resolution = SpaGCN.search_res(
        adata,
        distances,
        length,
        k,
        start=settings["resolution_start"],
        step=settings["resolution_step"],
        max_epochs=settings["search_epochs"],
        **learning,
        **seeds,
    )
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what the package draws from
    model = SpaGCN.SpaGCN()
    model.set_l(length)
    model.train(
        adata,
        distances,
        init_spa=True,
        init="louvain",
        res=resolution,
        max_epochs=settings["epochs"],
        **learning,
    )
    regions, _ = model.predict()
    embedding, _ = model.model.predict(model.embed, model.adj_exp)
    return embedding.detach().numpy(), regions

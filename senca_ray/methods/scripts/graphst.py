"""GraphST, spatial clustering of one section: the package's training, then the PCA of its `clustering`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anndata import AnnData
from GraphST.GraphST import GraphST
from sklearn.decomposition import PCA

_PCA_SEED = 42
"""The one that the package gives its PCA."""


def fit(section: Any, settings: dict[str, Any], seed: int, k: int | None) -> tuple[np.ndarray, None]:
    """Return the principal components (N, pcs) of GraphST's reconstruction.

    No regions: the package finds them with mclust, which needs R.
    """
    torch.use_deterministic_algorithms(True)
    adata = AnnData(section.counts.astype(np.float32))
    adata.var_names = section.genes
    adata.obsm["spatial"] = section.xy
    model = GraphST(adata, device=torch.device("cpu"), random_seed=seed, epochs=settings["epochs"])
    reconstruction = model.train().obsm["emb"]
    pca = PCA(n_components=settings["pcs"], random_state=_PCA_SEED)
    return pca.fit_transform(reconstruction), None

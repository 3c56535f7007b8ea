"""DeepST (deepstkit) without image, in the order of steps of the package's README."""

from __future__ import annotations

import sys
import tempfile
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch_geometric.nn  # noqa: F401  before the stand-ins below: it would take one for the real torch_sparse
from anndata import AnnData


class _Edges:
    """Stands in for torch_sparse.SparseTensor, of which PyPI has no wheels, only sources to compile.

    The package fills one with its graph and hands it to GAT layers, which use the edges and not their values;
    an edge index makes them compute the same.
    """

    def __init__(
        self, row: torch.Tensor, col: torch.Tensor, value: torch.Tensor, sparse_sizes: tuple[int, int]
    ) -> None:
        self._index = torch.stack([row, col])

    def t(self) -> torch.Tensor:
        """Edge index (2, edges), source and target."""
        return self._index


def _stand_in(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
    return module


_stand_in("torch_sparse", SparseTensor=_Edges)
# Imported by the package for its image features, which are not used here.
_models, _transforms = _stand_in("torchvision.models"), _stand_in("torchvision.transforms")
_stand_in("torchvision", models=_models, transforms=_transforms)

import deepstkit  # noqa: E402  after the stand-ins


def fit(section: Any, settings: dict[str, Any], seed: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return DeepST's embedding (N, 28) and its own Leiden domains (N,), not refined."""
    torch.use_deterministic_algorithms(True)
    deepstkit.utils_func.seed_torch(seed=seed)
    adata = AnnData(section.counts.astype(np.float32))
    adata.var_names = section.genes
    adata.obsm["spatial"] = section.xy
    with tempfile.TemporaryDirectory() as folder:
        deepst = deepstkit.main.run(
            save_path=folder,
            task="Identify_Domain",
            pre_epochs=settings["pre_epochs"],
            epochs=settings["epochs"],
            use_gpu=False,
        )
        adata = deepst._get_augment(adata, spatial_type="BallTree", use_morphological=False)
        graph = deepst._get_graph(adata.obsm["spatial"], distType="KDTree")
        # A section has no more components than spots.
        data = deepst._data_process(adata, pca_n_comps=min(settings["pcs"], adata.n_obs - 1))
        embedding = deepst._fit(data=data, graph_dict=graph)
        adata.obsm["DeepST_embed"] = embedding
        adata = deepst._get_cluster_data(adata, n_domains=k, priori=True)
    return embedding, adata.obs["DeepST_domain"].to_numpy().astype(np.int64)

"""DeepST: augmented expression and a variational graph autoencoder, run from the authors' package."""

from __future__ import annotations

from types import MappingProxyType

from senca_ray import keys
from senca_ray.methods.package import SCANPY, SCRIPTS, PackageRegionMethod


class DeepSt(PackageRegionMethod):
    """DeepST without image, with the settings of its README.

    Its own domains are those before its refinement: Leiden, resolution searched for k. A section of fewer
    spots than components gets one component less than it has spots.
    """

    name = "deepst"
    title = "DeepST (deepstkit 2.0.3) without image, README settings"
    citation = "Xu et al., Nucleic Acids Research 2022"
    checked = (
        "an edge index stands in for torch_sparse's matrix: torch-geometric 2.8.1's GAT layers, read for it, "
        "add self-loops to both alike and use no edge values"
    )
    modality = "expression and coordinates"
    slow = True
    clusterings = ("leiden", "kmeans", keys.OWN)
    settings = MappingProxyType({"pre_epochs": 500, "epochs": 500, "pcs": 200})
    requirements = (
        *SCANPY,
        "leidenalg==0.10.2",
        "setuptools==80.9.0",  # louvain imports pkg_resources, which setuptools 81 dropped
        "louvain==0.8.2",
        "torch-geometric==2.8.1",
        "psutil==7.2.2",
        "deepstkit==2.0.3",
    )
    script = SCRIPTS / "deepst.py"

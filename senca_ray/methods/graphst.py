"""GraphST: graph self-supervised contrastive learning, run from the authors' package."""

from __future__ import annotations

from types import MappingProxyType

from senca_ray.methods.package import SCANPY, SCRIPTS, PackageMethod


class GraphSt(PackageMethod):
    """GraphST's reconstruction after 600 epochs, 20 principal components, as its tutorial clusters them.

    The tutorial hands them to R's mclust with model EEE: that is our Gaussian mixture with tied covariance.
    """

    name = "graphst"
    title = "GraphST 1.1.1, 600 epochs, PCA 20 of its reconstruction, tied Gaussian mixture for mclust EEE"
    citation = "Long et al., Nature Communications 2023"
    modality = "expression and coordinates"
    slow = True
    clusterings = ("gmm-tied",)
    settings = MappingProxyType({"epochs": 600, "pcs": 20})
    requirements = (*SCANPY, "POT==0.9.5", "scikit-misc==0.5.1", "GraphST==1.1.1")
    script = SCRIPTS / "graphst.py"

"""STAGATE: graph attention autoencoder, run from a maintained copy of the authors' package."""

from __future__ import annotations

from types import MappingProxyType

from senca_ray.methods.package import SCANPY, SCRIPTS, PackageMethod


class Stagate(PackageMethod):
    """STAGATE with the steps of its tutorial; spots within 1.5 spot distances are neighbours.

    The tutorial hands the embedding to R's mclust with model EEE: that is our Gaussian mixture with tied
    covariance.
    """

    name = "stagate"
    title = (
        "STAGATE (stagate-modern 1.0.0.post1), radius 1.5, 1,000 epochs, tied Gaussian mixture for mclust EEE"
    )
    citation = "Dong & Zhang, Nature Communications 2022"
    checked = "a maintained copy of the authors' PyTorch release, without the cell-type-aware network"
    modality = "expression and coordinates"
    slow = True
    clusterings = ("gmm-tied", "kmeans")
    settings = MappingProxyType({"hvgs": 3000, "radius": 1.5, "hidden": [512, 30], "epochs": 1000})
    requirements = (
        *SCANPY,
        "scikit-misc==0.5.1",
        "torch-geometric==2.8.1",
        "tqdm==4.67.1",
        "stagate-modern==1.0.0.post1",
    )
    script = SCRIPTS / "stagate.py"

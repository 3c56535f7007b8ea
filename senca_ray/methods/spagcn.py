"""SpaGCN: graph convolution and iterative clustering, run from the authors' package."""

from __future__ import annotations

from types import MappingProxyType

from senca_ray import keys
from senca_ray.methods.package import SCANPY, SCRIPTS, PackageRegionMethod


class SpaGcn(PackageRegionMethod):
    """SpaGCN with histology off, neighbourhoods giving half of a spot's own weight (p = 0.5).

    Steps and numbers are those of the package's own short cut `detect_spatial_domains_ez_mode`, and nothing
    is refined: Louvain starts the clusters, its resolution searched for k of them by short trainings.
    """

    name = "spagcn"
    title = "SpaGCN 1.2.7, histology off, p = 0.5, Louvain start searched for k, its own domains"
    citation = "Hu et al., Nature Methods 2021"
    modality = "expression and coordinates"
    clusterings = (keys.OWN,)
    settings = MappingProxyType(
        {
            "p": 0.5,
            "min_cells": 3,
            "resolution_start": 0.7,
            "resolution_step": 0.1,
            "search_epochs": 20,
            "epochs": 200,
            "lr": 0.05,
            "tol": 5e-3,
        }
    )
    # louvain imports pkg_resources, which setuptools 81 dropped.
    requirements = (*SCANPY, "setuptools==80.9.0", "louvain==0.8.2", "SpaGCN==1.2.7")
    script = SCRIPTS / "spagcn.py"

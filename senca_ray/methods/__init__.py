"""Methods: SENCA-st, the controls that every table shows beside it, and what it is compared with.

Importing this imports neither torch nor scikit-learn.
"""

from __future__ import annotations

import functools
import importlib.metadata

from senca_ray import keys
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, Method, RegionMethod, TrainedMethod
from senca_ray.methods.bayesspace import BayesSpace
from senca_ray.methods.concatenated import Concatenated
from senca_ray.methods.congr import ConGar, ConGcr
from senca_ray.methods.const import ConSt
from senca_ray.methods.coordinates import Coordinates
from senca_ray.methods.deepst import DeepSt
from senca_ray.methods.depth import Depth
from senca_ray.methods.gcn_autoencoder import GcnAutoencoder
from senca_ray.methods.graphst import GraphSt
from senca_ray.methods.image import Image
from senca_ray.methods.pca import Pca
from senca_ray.methods.pearson import Pearson
from senca_ray.methods.random_regions import RandomRegions
from senca_ray.methods.senca import Senca, Untrained
from senca_ray.methods.smoothed_image import SmoothedImage
from senca_ray.methods.smoothed_pca import SmoothedPca
from senca_ray.methods.spagcn import SpaGcn
from senca_ray.methods.stagate import Stagate

_CLASSES: tuple[type[Method], ...] = (
    Senca,
    # nulls
    Untrained,
    Coordinates,
    Depth,
    RandomRegions,
    # simple
    Pca,
    SmoothedPca,
    Pearson,
    Image,
    SmoothedImage,
    Concatenated,
    # published: the paper's Table 1, then others
    BayesSpace,
    SpaGcn,
    DeepSt,
    ConSt,
    ConGcr,
    ConGar,
    Stagate,
    GraphSt,
    GcnAutoencoder,
)
METHODS: dict[str, Method] = {method.name: method for method in (cls() for cls in _CLASSES)}
"""Every method of this package by name, in the order of lists."""

MODEL = "senca"
CONTROLS = ("untrained", "smoothed-pca", "smoothed-image", "coordinates")
"""Run beside the model in every study (design decision 13)."""

ENTRY_POINTS = "senca_ray.methods"
"""Entry point group through which other packages add a method: a subclass of `Method`."""

__all__ = [
    "CONTROLS",
    "ENTRY_POINTS",
    "METHODS",
    "MODEL",
    "Embedding",
    "Method",
    "RegionMethod",
    "TrainedMethod",
    "all_methods",
    "broken",
    "method",
]


def method(name: str) -> Method:
    """Return a method by name; raises SencaError listing the known ones."""
    if name in METHODS:
        return METHODS[name]
    known = all_methods()
    if name not in known:
        raise SencaError(f"method {name!r} is unknown; expected one of {', '.join(known)}")
    return known[name]


def all_methods() -> dict[str, Method]:
    """Every method by name, those that other packages add last."""
    return METHODS | _added()[0]


def broken() -> dict[str, str]:
    """Methods of other packages that cannot be used: name of the entry point to the reason."""
    return dict(_added()[1])


@functools.cache
def _added() -> tuple[dict[str, Method], dict[str, str]]:
    methods: dict[str, Method] = {}
    reasons: dict[str, str] = {}
    for entry in sorted(importlib.metadata.entry_points(group=ENTRY_POINTS), key=lambda e: e.name):
        try:
            found = entry.load()()
            if not isinstance(found, Method):
                raise TypeError(f"{entry.value} is no subclass of senca_ray.methods.Method")
            name, _ = str(found.name), str(found.title)
        except Exception as error:  # noqa: BLE001  another package's fault is no reason to stop
            reasons[entry.name] = f"{type(error).__name__}: {error}"
            continue
        if name in METHODS | methods:
            reasons[entry.name] = f"there is a method {name!r} already"
        elif name in keys.METHOD_KINDS or ":" in name:
            reasons[entry.name] = f"the name {name!r} means something else: choose another, without ':'"
        else:
            methods[name] = found
    return methods, reasons

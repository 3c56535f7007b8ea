"""Methods: SENCA-st and the controls that every table shows beside it. Importing this imports no torch."""

from __future__ import annotations

from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.coordinates import Coordinates
from senca_ray.methods.senca import Senca, Untrained
from senca_ray.methods.smoothed_image import SmoothedImage
from senca_ray.methods.smoothed_pca import SmoothedPca

METHODS: dict[str, Method] = {
    m.name: m for m in (Senca(), Untrained(), SmoothedPca(), SmoothedImage(), Coordinates())
}
"""Every method by name."""

MODEL = "senca"
CONTROLS = tuple(name for name in METHODS if name != MODEL)
"""Run beside the model in every study (design decision 13)."""

__all__ = ["CONTROLS", "METHODS", "MODEL", "Embedding", "Method", "method"]


def method(name: str) -> Method:
    """Return a method by name; raises SencaError listing the known ones."""
    if name not in METHODS:
        raise SencaError(f"method {name!r} is unknown; expected one of {', '.join(METHODS)}")
    return METHODS[name]

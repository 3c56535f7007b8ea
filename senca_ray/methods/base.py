"""The interface that SENCA-st, every baseline and every control share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample

Clustering = Literal["ward", "average", "complete", "kmeans"]


@dataclass(frozen=True)
class Embedding:
    """What a method learnt about a section, ready to be clustered."""

    values: np.ndarray
    """(N, D) float32 or float64, one row a spot."""
    losses: tuple[float, ...] = ()
    """Training loss of every epoch; empty for methods that are not trained."""


class Method(Protocol):
    """One way to embed a section; regions and scores are computed the same way for all."""

    name: str
    title: str
    """How tables call it."""
    role: Literal["model", "control"]
    clustering: Clustering
    """How its embedding is turned into regions by default."""
    needs_image: bool
    seeded: bool
    """False when the embedding and its clustering do not depend on the seed: one row is enough."""

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Embed one section; raises SencaError where the method does not apply to it."""
        ...

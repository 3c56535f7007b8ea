"""Coordinates only: how far a method gets that knows where a spot is and nothing else."""

from __future__ import annotations

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method


class Coordinates(Method):
    """k-means on the positions of the spots."""

    name = "coordinates"
    title = "null: k-means on the spots' positions alone"
    kind = keys.NULL
    modality = "coordinates"
    clusterings = ("kmeans",)
    fixed_embedding = True

    def genes_needed(self, setting: Setting) -> int:
        """One: expression is not used."""
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the positions in spot distances, (N, 2)."""
        return Embedding(sample.xy)

"""Smoothed image features: what the frozen encoder alone says about a section."""

from __future__ import annotations

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.smoothing import neighborhood_mean

_NEIGHBORS, _ROUNDS = 8, 2


class SmoothedImage(Method):
    """The encoder's features, averaged twice over 8 neighbours, agglomerative (ward) clustering."""

    name = "smoothed-image"
    title = "image only: the encoder's features, mean over 8 neighbours twice, ward"
    clusterings = ("ward",)
    modality = "image"
    needs_image = True
    seeded = False

    def genes_needed(self, setting: Setting) -> int:
        """One: expression is not used."""
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the smoothed features, (N, F); raises SencaError for a section without image."""
        if sample.image_features is None:
            raise SencaError(f"{sample.name}: {self.name} needs an image and the section has none")
        values = sample.image_features
        for _ in range(_ROUNDS):
            values = neighborhood_mean(values, sample.nearest(_NEIGHBORS))
        return Embedding(values)

"""Smoothed image features: what the frozen encoder alone says about a section."""

from __future__ import annotations

from types import MappingProxyType

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.image import image_features
from senca_ray.methods.smoothing import smoothed


class SmoothedImage(Method):
    """The encoder's features, averaged twice over 8 neighbours, agglomerative (ward) clustering."""

    name = "smoothed-image"
    title = "image only: the encoder's features, mean over 8 neighbours twice, ward"
    settings = MappingProxyType({"neighbors": 8, "rounds": 2})
    clusterings = ("ward",)
    modality = "image"
    needs_image = True
    seeded = False

    def genes_needed(self, setting: Setting) -> int:
        """One: expression is not used."""
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the smoothed features, (N, F); raises SencaError for a section without image."""
        values = image_features(sample, self.name)
        for _ in range(self.settings["rounds"]):
            values = smoothed(sample, values, self.settings["neighbors"])
        return Embedding(values)

"""Image features as they are: what the frozen encoder sees of each spot by itself."""

from __future__ import annotations

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.errors import SencaError
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.smoothing import standardised


class Image(Method):
    """The encoder's features, standardised; no smoothing, so what smoothing adds can be told."""

    name = "image"
    title = "image only: the encoder's features, standardised, ward"
    clusterings = ("ward",)
    modality = "image"
    needs_image = True
    seeded = False

    def genes_needed(self, setting: Setting) -> int:
        """One: expression is not used."""
        return 1

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return the features, (N, F); raises SencaError for a section without image."""
        return Embedding(standardised(image_features(sample, self.name)))


def image_features(sample: Sample, method: str) -> np.ndarray:
    """The encoder's features of a section, (N, F); raises SencaError naming the method that needs them."""
    if sample.image_features is None:
        raise SencaError(f"{sample.name}: {method} needs an image and the section has none")
    return sample.image_features

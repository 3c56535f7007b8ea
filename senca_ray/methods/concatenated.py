"""Expression beside image without any model: what a network that joins the two has to beat."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.methods.base import Embedding, Method
from senca_ray.methods.image import image_features
from senca_ray.methods.pca import principal_components
from senca_ray.methods.smoothed_pca import SmoothedPca
from senca_ray.methods.smoothing import smoothed, standardised


class Concatenated(Method):
    """Principal components of smoothed expression beside those of smoothed image features.

    Expression as `smoothed-pca` has it; the encoder's features standardised and smoothed as often as
    `smoothed-image` does. Both blocks have the same total variance.
    """

    name = "concatenated"
    title = "smoothed PCA of expression beside smoothed PCA of image features, of equal variance"
    settings = MappingProxyType(
        {**SmoothedPca.settings, "image_neighbors": 8, "image_rounds": 2, "image_components": 15}
    )
    clusterings = ("kmeans", "gmm-tied", "ward", "leiden")
    fixed_embedding = True
    modality = "expression and image"
    needs_image = True

    def genes_needed(self, setting: Setting) -> int:
        """2,000, whatever the setting."""
        return self.settings["hvgs"]

    def embed(self, sample: Sample, setting: Setting, seed: int) -> Embedding:
        """Return both blocks, (N, 30) or fewer; raises SencaError for a section without image."""
        features = standardised(image_features(sample, self.name))
        for _ in range(self.settings["image_rounds"]):
            features = smoothed(sample, features, self.settings["image_neighbors"])
        blocks = (
            SmoothedPca().embed(sample, setting, seed).values,
            principal_components(features, self.settings["image_components"]),
        )
        return Embedding(np.hstack([_unit_variance(block) for block in blocks]))


def _unit_variance(block: np.ndarray) -> np.ndarray:
    """A block (N, R) scaled to a total variance of 1; without any variance it stays as it is."""
    total = block.var(axis=0).sum()
    return block / np.sqrt(total) if total > 0 else block

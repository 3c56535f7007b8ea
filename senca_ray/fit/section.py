"""A section as the network reads it: what a setting asks of a sample, as tensors."""

from __future__ import annotations

import numpy as np
import torch

from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.model.senca import SectionTensors, standardise

TILE = 3.0
"""Side of a pooling tile in spot distances: 3x3 spots on a square grid."""


def section_tensors(sample: Sample, setting: Setting, device: str = "cpu") -> SectionTensors:
    """Put the prefix of a sample that `setting` asks for into tensors; raises SencaError if it is short."""
    neighborhood = np.arange(len(sample.xy))[:, None]
    if setting.graph:
        neighborhood = np.hstack([neighborhood, sample.nearest(setting.neighbors)])
    # Rounded like the neighbour order, so that a spot on a tile's edge does not change sides by 1e-16.
    corner = np.round((sample.xy - sample.xy.min(axis=0)) / TILE, 6)
    _, tiles, sizes = np.unique(np.floor(corner), axis=0, return_inverse=True, return_counts=True)
    image = sample.image_features if setting.image else None
    return SectionTensors(
        expression=torch.from_numpy(sample.expression(setting.hvgs)).to(device),
        neighborhood=torch.from_numpy(neighborhood).to(device),
        tiles=torch.from_numpy(tiles).to(device),
        tile_sizes=torch.from_numpy(sizes).float().to(device),
        image_features=None if image is None else standardise(torch.tensor(image).to(device)),
    )

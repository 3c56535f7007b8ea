"""A section as the network reads it: what a setting asks of a sample, as tensors."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.data.sample import Sample
from senca_ray.fit.form import form_of
from senca_ray.model.graph_transformer import Blocks
from senca_ray.model.senca import SectionTensors, standardise

TILE = 3.0
"""Side of a pooling tile in spot distances: 3x3 spots on a square grid."""
BLOCKS = 1024
"""About how many blocks self-attention sees in the large form."""


def section_tensors(sample: Sample, setting: Setting, device: str = "cpu") -> SectionTensors:
    """Put the prefix of a sample that `setting` asks for into tensors; raises SencaError if it is short."""
    neighborhood = np.arange(len(sample.xy))[:, None]
    if setting.graph:
        neighborhood = np.hstack([neighborhood, sample.nearest(setting.neighbors)])
    tiles, sizes = _squares(sample.xy, TILE)
    large = form_of(setting, len(sample.xy)) == keys.LARGE
    image = sample.image_features if setting.image else None
    return SectionTensors(
        expression=torch.from_numpy(sample.expression(setting.hvgs)).to(device),
        neighborhood=torch.from_numpy(neighborhood).to(device),
        tiles=torch.from_numpy(tiles).to(device),
        tile_sizes=torch.from_numpy(sizes).float().to(device),
        image_features=None if image is None else _standardised(torch.tensor(image), large, device),
        blocks=_blocks(sample.xy, device) if large else None,
    )


def _standardised(features: Tensor, large: bool, device: str) -> Tensor:
    if not large:
        return standardise(features.to(device))
    # A few columns at a time and in place: all at once takes the memory of the features four times over.
    for columns in features.split(64, dim=1):
        columns.copy_(standardise(columns))
    return features.to(device)


def _blocks(xy: np.ndarray, device: str) -> Blocks:
    """About BLOCKS squares of tissue, those at its rim holding fewer spots."""
    square, sizes = _squares(xy, max(math.sqrt(len(xy) / BLOCKS), 1.0))
    return Blocks(torch.from_numpy(square).to(device), torch.from_numpy(sizes).float().to(device))


def _squares(xy: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The square of this side that each spot (N, 2) lies in, (N,), and how many spots each one holds."""
    # Rounded like the neighbour order, so that a spot on a tile's edge does not change sides by 1e-16.
    corner = np.round((xy - xy.min(axis=0)) / side, 6)
    _, square, sizes = np.unique(np.floor(corner), axis=0, return_inverse=True, return_counts=True)
    return square, sizes

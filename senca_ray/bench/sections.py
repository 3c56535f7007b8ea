"""Sections of an exact size for measurements: the time of a fit depends on sizes, hardly on the values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.data.graph import nearest_neighbors
from senca_ray.data.shards import ShardContent, write_shard

SPOTS, GENES, FEATURES, LABELS = 600, 1200, 1280, 6
"""FEATURES as the packaged encoder gives them."""
_COLUMNS, _NEIGHBORS = 30, 16


def section_content(*, image: bool, seed: int = 0) -> ShardContent:
    """A section of 600 spots on a grid in six bands, with cached image features or without an image."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(_COLUMNS), np.arange(SPOTS // _COLUMNS))
    xy = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    band = (xy[:, 0] * LABELS // _COLUMNS).astype(int)
    rates = rng.gamma(0.5, 2.0, (LABELS, GENES))
    features = rng.normal(size=(LABELS, FEATURES))[band] + rng.normal(size=(SPOTS, FEATURES))
    return ShardContent(
        meta={
            "sample": f"S{seed}",
            "patient": f"P{seed}",
            "label_source": keys.SIMULATED,
            "modality": keys.RNA_IMAGE if image else keys.RNA,
            "encoder": "random features" if image else "none",
            "fingerprint": f"{2 * seed + image:016x}".ljust(64, "0"),
            "format": "benchmark",
            "config": {"target_sum": 1e4},
            "raw_genes": GENES,
            "notes": [],
        },
        spots=tuple(f"{a:g}x{b:g}" for a, b in xy),
        xy=xy,
        pixel_xy=None,
        labels=tuple(f"label {b}" for b in band),
        neighbors=nearest_neighbors(xy, _NEIGHBORS),
        genes=tuple(f"G{i:04d}" for i in range(GENES)),
        counts=csr_matrix(rng.poisson(rates[band]).astype(np.int32)),
        dispersion=np.linspace(3, 0, GENES),
        image_features=features.astype(np.float32) if image else None,
        patches=None,
        thumbnail=None,
    )


def write_section(store: Path, *, image: bool, seed: int = 0) -> str:
    """Write the section as a shard and return its address."""
    return str(write_shard(store, section_content(image=image, seed=seed)))

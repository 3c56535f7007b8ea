"""Made-up portraits for the sections of a study folder: bands of spots as regions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import linkage

from senca_ray import keys
from senca_ray.analysis.description import read_description
from senca_ray.analysis.markers import MARKER_COLUMNS
from senca_ray.analysis.portrait import Portrait, Tree, write_portrait
from senca_ray.data.shards import read_display

LEAVES = 8
"""Bands that the tree's leaves are; regions join neighbouring bands."""


def toy_portrait(
    sample: str, xy: np.ndarray, *, k: int = 4, method: str = "senca", setting: str = "neighbors=4"
) -> Portrait:
    """A portrait of spots at xy (N, 2) in k bands from left to right, the last one small."""
    rng = np.random.default_rng(0)
    order = np.argsort(np.argsort(xy[:, 0] + 1e-6 * xy[:, 1])) / len(xy)
    leaf = np.minimum((order * LEAVES).astype(np.int16), LEAVES - 1)
    edges = np.append(np.linspace(0, 0.96, k)[1:], 0.96) if k > 1 else []
    regions = np.searchsorted(edges, order, side="right").astype(np.int16).clip(0, k - 1)
    return Portrait(
        sample=sample,
        method=method,
        setting=setting,
        regions=regions,
        n_seeds=3,
        seed=1,
        confidence=np.where(rng.random(len(xy)) < 0.8, 1.0, 2 / 3).astype(np.float32),
        umap=(np.column_stack([order, rng.random(len(xy))]) * 10).astype(np.float32),
        tree=Tree("ward", leaf, linkage(np.arange(LEAVES, dtype=float)[:, None] ** 1.1, "ward")[:, :3]),
        curve={2: 0.2, 3: 0.35, 4: 0.5, 5: 0.3},
        kinds=tuple(range(k)),
        markers=pd.DataFrame(
            [
                {"region": region, "gene": f"GENE{region}{i}", "n_spots_in": 10, "n_spots_out": 30, "p": 1e-4}
                | {"p_adjusted": 1e-3, "effect": 0.9 - 0.1 * i, "log2_fold_change": 2.0}
                | {"fraction_in": 0.9, "fraction_out": 0.2}
                for region in range(k)
                for i in range(3)
            ],
            columns=list(MARKER_COLUMNS),
        ),
    )


def write_toy_portraits(folder: Path) -> dict[str, Portrait]:
    """Portraits of every section of a study whose shard can be read, of its default setting."""
    description = read_description(folder)
    made = {}
    for sample, shard in description["shards"].items():
        setting = keys.FIXED if description["kind"] == "benchmark" else description["default"]
        made[sample] = toy_portrait(sample, read_display(shard).xy, setting=setting)
        write_portrait(folder, made[sample], made_from="made up")
    return made

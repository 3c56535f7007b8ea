"""Small sections with known structure, for tests of everything behind the readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix

from senca_ray import keys
from senca_ray.config import PrepareConfig
from senca_ray.data.graph import nearest_neighbors
from senca_ray.data.sample import Sample
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.data.shards import ShardContent
from senca_ray.data.stages import Recipe, expression_content, fingerprint


def grid(columns: int, rows: int) -> np.ndarray:
    """(columns * rows, 2) integer array positions: most distances tie."""
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)


def toy_section(
    folder: Path, *, seed: int = 0, columns: int = 8, rows: int = 6, genes: int = 60
) -> RawSection:
    """A section without image: two halves that differ in half of the genes. Writes its raw file."""
    rng = np.random.default_rng(seed)
    xy = grid(columns, rows)
    right = xy[:, 0] >= columns / 2
    rates = rng.gamma(2.0, 1.0, (2, genes))
    counts = csr_matrix(rng.poisson(rates[right.astype(int)]).astype(np.int32))
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "T1.tsv"
    raw.write_text(f"toy {seed}")
    files = SectionFiles(
        sample="T1",
        patient="T",
        label_source=keys.SIMULATED,
        root=folder,
        format="toy",
        counts=raw,
        labels=raw,
    )
    labels = np.where(right, "invasive cancer", "connective tissue")
    labels[0] = keys.UNDETERMINED
    return RawSection(
        files=files,
        spots=tuple(f"{x:g}x{y:g}" for x, y in xy),
        genes=tuple(f"G{i}" for i in range(genes)),
        counts=counts,
        xy=xy,
        labels=tuple(labels.tolist()),
    )


def toy_content(section: RawSection, **config: int) -> ShardContent:
    """What `prepare` would write of a section without image."""
    recipe = Recipe(PrepareConfig(**config), None, "unused")
    return expression_content(section, recipe, fingerprint(section.files, recipe))


def toy_sample(
    *, seed: int = 0, image: bool = True, columns: int = 10, rows: int = 8, genes: int = 60
) -> Sample:
    """A prepared section in memory: three vertical bands, seen in expression and in image features."""
    rng = np.random.default_rng(seed)
    xy = grid(columns, rows)
    band = np.minimum(xy[:, 0] * 3 // columns, 2).astype(int)
    counts = csr_matrix(rng.poisson(rng.gamma(2.0, 1.0, (3, genes))[band]).astype(np.int32))
    names = np.array(["invasive cancer", "cancer in situ", "connective tissue"])
    labels = names[band].astype(object)
    labels[3] = keys.UNDETERMINED
    features = rng.normal(size=(3, 24))[band] + rng.normal(scale=0.7, size=(len(xy), 24))
    return Sample(
        name="T1",
        patient="T",
        label_source=keys.SIMULATED,
        fingerprint="0" * 64,
        encoder="toy" if image else "none",
        genes=tuple(f"G{i}" for i in range(genes)),
        counts=counts,
        total_counts=np.asarray(counts.sum(axis=1)).ravel(),
        target_sum=1e4,
        xy=xy,
        neighbors=nearest_neighbors(xy, 16),
        image_features=features.astype(np.float32) if image else None,
        labels=labels.astype(str),
    )

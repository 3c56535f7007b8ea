"""Sections of an exact size for measurements: the time of a fit depends on sizes, hardly on the values."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, vstack
from scipy.spatial import KDTree

from senca_ray import keys
from senca_ray.bench.sizes import FEATURES, GENES, LABELS, SPOTS
from senca_ray.data.graph import nearest_neighbors
from senca_ray.data.shards import ShardContent, write_shard

_COLUMNS, _NEIGHBORS = 30, 16
TISSUE_GENES = 500
_TERRITORIES, _WAVES = 24, 8
_KIND_EFFECTS = ((0.25, TISSUE_GENES), (0.12, FEATURES))
"""Spread of kinds of tissue in log expression and in image features, and how many values those are."""
_WAVE_EFFECTS = ((0.10, TISSUE_GENES), (0.06, FEATURES))
"""The same of what changes smoothly across the tissue."""
_CHUNK = 20_000
"""Spots simulated at once."""


def section_content(*, image: bool, seed: int = 0) -> ShardContent:
    """A section of 600 spots on a grid in six bands, with cached image features or without an image."""
    rng = np.random.default_rng(seed)
    x, y = np.meshgrid(np.arange(_COLUMNS), np.arange(SPOTS // _COLUMNS))
    xy = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    band = (xy[:, 0] * LABELS // _COLUMNS).astype(int)
    rates = rng.gamma(0.5, 2.0, (LABELS, GENES))
    features = rng.normal(size=(LABELS, FEATURES))[band] + rng.normal(size=(SPOTS, FEATURES))
    return ShardContent(
        meta=_meta(
            f"S{seed}", f"P{seed}", f"{2 * seed + image:016x}".ljust(64, "0"), image=image, genes=GENES
        ),
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


def tissue_content(n_spots: int, *, seed: int = 0) -> ShardContent:
    """A section of about `n_spots` spots with image features, simulated as Visium HD bins a tissue.

    The spots are those of a square grid. Labels are 24 territories of six kinds. Spots carry few counts, the
    kinds differ little in expression and in image features, and both change smoothly across the tissue as
    well: what a model finds is far from perfect and differs from seed to seed, as on a real section.
    """
    rng = np.random.default_rng(seed)
    columns = round(np.sqrt(n_spots))
    x, y = np.meshgrid(np.arange(columns), np.arange(-(-n_spots // columns)))
    xy = np.column_stack([x.ravel(), y.ravel()])[:n_spots].astype(np.float64)
    _, territory = KDTree(rng.uniform(0, columns, (_TERRITORIES, 2))).query(xy)
    kind = territory % LABELS
    waves = np.sin(xy @ rng.normal(0, 2 * np.pi / columns, (2, _WAVES)) + rng.uniform(0, 6, _WAVES))
    of_kind = [rng.normal(0, spread, (LABELS, width)) for spread, width in _KIND_EFFECTS]
    of_wave = [rng.normal(0, spread, (_WAVES, width)) for spread, width in _WAVE_EFFECTS]
    base = rng.normal(-2, 1, TISSUE_GENES)
    counts, features = [], np.empty((n_spots, FEATURES), dtype=np.float32)
    for start in range(0, n_spots, _CHUNK):
        part = slice(start, start + _CHUNK)
        genes, looks = (k[kind[part]] + waves[part] @ w for k, w in zip(of_kind, of_wave, strict=True))
        depth = rng.gamma(4, 0.25, (len(genes), 1))
        counts.append(csr_matrix(rng.poisson(np.exp(base + genes) * depth).astype(np.int32)))
        features[part] = looks + rng.standard_normal(looks.shape, dtype=np.float32)
    return ShardContent(
        meta=_meta(
            f"T{n_spots}", "P0", f"{n_spots:08x}{seed:08x}".ljust(64, "0"), image=True, genes=TISSUE_GENES
        ),
        spots=tuple(f"{a:g}x{b:g}" for a, b in xy),
        xy=xy,
        pixel_xy=None,
        labels=tuple(f"label {k}" for k in kind),
        neighbors=nearest_neighbors(xy, _NEIGHBORS),
        genes=tuple(f"G{i:04d}" for i in range(TISSUE_GENES)),
        counts=csr_matrix(vstack(counts)),
        dispersion=np.linspace(3, 0, TISSUE_GENES),
        image_features=features,
        patches=None,
        thumbnail=None,
    )


def write_section(store: Path, *, image: bool, seed: int = 0) -> str:
    """Write the section as a shard and return its address."""
    return str(write_shard(store, section_content(image=image, seed=seed)))


def write_patched(store: Path, pixels: int) -> str:
    """Write the section with patches of noise, as if prepared with a ResNet18 of random weights.

    Its features are as many as that gives, and noise like those of the section without patches.
    """
    # torch is imported by those alone who ask for patches.
    from senca_ray.model.image_encoder import RANDOM, load_encoder

    encoder, content = load_encoder(RANDOM), section_content(image=True)
    patches = np.random.default_rng(0).integers(0, 256, (SPOTS, pixels, pixels, 3), dtype=np.uint8)
    features = encoder.features(patches[:1]).shape[1]
    assert content.image_features is not None
    held = [{"asked": RANDOM, "name": encoder.name, "key": ""}]
    patched = dataclasses.replace(
        content,
        meta=content.meta | {"encoder": encoder.name, "encoders": held},
        image_features=content.image_features[:, :features],
        patches=patches,
    )
    return str(write_shard(store, patched))


def write_tissue(store: Path, n_spots: int, *, seed: int = 0) -> str:
    """Write a simulated tissue as a shard and return its address."""
    return str(write_shard(store, tissue_content(n_spots, seed=seed)))


def _meta(sample: str, patient: str, fingerprint: str, *, image: bool, genes: int) -> dict[str, Any]:
    return {
        "sample": sample,
        "patient": patient,
        "label_source": keys.SIMULATED,
        "modality": keys.RNA_IMAGE if image else keys.RNA,
        "encoder": "random features" if image else "none",
        "fingerprint": fingerprint,
        "format": "benchmark",
        "config": {"target_sum": 1e4},
        "raw_genes": genes,
        "notes": [],
    }

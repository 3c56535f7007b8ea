"""What a shard holds of a section's image: features of every encoder, a thumbnail, patches where asked for.

Features are computed once: a key tells everything that they follow from, and where a shard of the sample in
the store has features under the same key, they are copied.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from senca_ray import keys
from senca_ray.data import shards
from senca_ray.data.location import is_remote
from senca_ray.data.section import SectionFiles
from senca_ray.errors import SencaError

if TYPE_CHECKING:
    from senca_ray.data.stages import Recipe
    from senca_ray.model.image_encoder import Encoder

_PATCH_BYTES, _BATCH = 512 * 224 * 224 * 3, 32
"""Patches in memory together take up to 77 MB, and are whole batches of an encoder on a CPU."""


def image_content(
    content: shards.ShardContent, files: SectionFiles, spot_distance_um: float | None, recipe: Recipe
) -> shards.ShardContent:
    """Add what comes from the section's image; raises SencaError.

    `spot_distance_um` is the distance of adjacent spots in micrometres, None where unknown. Memory is bounded
    but for what is returned: the image is read by window, patches are encoded some hundreds at once.
    """
    from senca_ray.data.images import open_picture, thumbnail
    from senca_ray.data.patches import patch_radius_pixels, spot_distance_pixels
    from senca_ray.data.quality import image_quality

    config, pixels = recipe.config, content.pixel_xy
    if files.image is None or pixels is None:
        raise SencaError("an image without pixel positions of the spots; the reader has to give both")
    weights = recipe.weights or {}
    encoders = {name: _encoder(name, weights.get(name), config.precision) for name in config.encoders}
    distance = spot_distance_pixels(pixels)
    with open_picture(files.image, config.max_image_pixels) as picture:
        small, scale = thumbnail(picture)
        seen_small = np.asarray(Image.open(io.BytesIO(small)).convert("RGB"))
        quality = image_quality(picture, seen_small, scale, pixels, distance)
        radius = patch_radius_pixels(config, distance, spot_distance_um, picture.um_per_pixel)
        seen = {
            "image": shards.sha256(files.image),
            "positions": hashlib.sha256(pixels.astype("<f8").tobytes()).hexdigest(),
            "radius": radius,
            "pixels": config.patch_pixels,
            "stain": config.stain,
        }
        found = {name: feature_key(seen, encoder) for name, encoder in encoders.items()}
        features = {}
        for name, key in found.items():
            stored = stored_features(recipe.store, files.sample, key)
            if stored is not None and len(stored) == len(pixels):
                features[name] = stored
        todo = {name: encoder for name, encoder in encoders.items() if name not in features}
        patches = None
        if todo or config.store_patches:
            computed, patches = _encode(picture, pixels, radius, todo, recipe)
            features |= computed
    first, *others = config.encoders
    added = {
        "encoder": encoders[first].name,
        "encoders": [{"asked": n, "name": e.name, "key": found[n]} for n, e in encoders.items()],
        "spot_distance_pixels": distance,
        "patch_radius_pixels": radius,
        "thumbnail_scale": scale,
        "quality": content.meta["quality"] | quality,
    }
    return dataclasses.replace(
        content,
        meta=content.meta | added,
        image_features=features[first],
        more_features={name: features[name] for name in others},
        patches=patches,
        thumbnail=small,
    )


def _encode(
    picture: Any, pixels: np.ndarray, radius: float, encoders: Mapping[str, Encoder], recipe: Recipe
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Features (N, F) of the patches by every encoder; the patches too where they are to be kept."""
    from senca_ray.data.patches import patch_batches
    from senca_ray.data.stain import normaliser

    config = recipe.config
    normalise = normaliser(config.stain, picture)
    side = config.patch_pixels
    at_once = max(_BATCH, _PATCH_BYTES // (3 * side**2) // _BATCH * _BATCH)
    found: dict[str, np.ndarray] = {}
    kept = np.empty((len(pixels), side, side, 3), dtype=np.uint8) if config.store_patches else None
    for rows, cropped in patch_batches(picture, pixels, radius, side, at_once):
        patches = cropped if normalise is None else normalise(cropped)
        for name, encoder in encoders.items():
            features = encoder.features(patches)
            if name not in found:
                found[name] = np.empty((len(pixels), features.shape[1]), dtype=np.float32)
            found[name][rows] = features
        if kept is not None:
            kept[rows] = patches
    return found, kept


def feature_key(seen: Mapping[str, Any], encoder: Encoder) -> str:
    """Hex digest of everything that features follow from: what the encoder saw, and the encoder.

    Not of the device: a GPU's features differ from a CPU's by less than a patch's place does.
    """
    about = {
        "schema": shards.SCHEMA_VERSION,
        **seen,
        "encoder": encoder.identity,
        "precision": encoder.precision,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def stored_features(store: str, sample: str, key: str) -> np.ndarray | None:
    """(N, F) features under this key in a sound shard of the sample; None without one, or in a far store."""
    import pyarrow as pa

    if is_remote(store):
        return None
    for description in sorted(Path(store).glob(f"{sample}-*/{keys.SHARD_FILE}")):
        try:
            meta = json.loads(description.read_text(encoding="utf-8"))
            held = [one["key"] for one in meta["encoders"]] if meta["schema"] == shards.SCHEMA_VERSION else []
            spots = description.parent / keys.SPOTS_FILE
            # What is damaged must not get into a shard that is not.
            if key not in held or shards.sha256(spots) != meta["checksums"][keys.SPOTS_FILE]:
                continue
            column, _ = shards.features_column(meta, meta["encoders"][held.index(key)]["asked"]) or ("", "")
            return shards.read_features(spots, column)
        except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
            continue  # another shard, or none: then they are computed
    return None


@functools.cache
def _encoder(name: str, weights: str | None, precision: str) -> Encoder:
    """The encoder on this worker's device, loaded once a process."""
    import torch

    from senca_ray.model.image_encoder import load_encoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_encoder(name, Path(weights) if weights else None, device, precision)

"""The two stages of `prepare` that run in Ray Data's tasks and actors, one section a row.

`read_section` reads, checks and orders what expression and positions give; `encode_and_write` adds what comes
from the image and writes the shard. No Ray in here.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senca_ray.config import PrepareConfig
from senca_ray.data import readers, shards
from senca_ray.data.section import RawSection, SectionFiles
from senca_ray.errors import Problem, ProblemsError, SencaError

if TYPE_CHECKING:
    from senca_ray.model.image_encoder import Encoder

_PATCHES_AT_ONCE = 256
"""Patches in memory together: 40 MB at 224 pixels."""


@dataclass(frozen=True)
class Recipe:
    """What turns a section into a shard, the same for every section of a call."""

    config: PrepareConfig
    weights: str | None
    """File of encoder weights, for a ResNet."""
    store: str


def fingerprint(files: SectionFiles, recipe: Recipe) -> str:
    """Hex digest of the raw files, the recipe and the shard schema: the same input, the same shard."""
    content = {
        "schema": shards.SCHEMA_VERSION,
        "format": files.format,
        "sample": files.sample,
        "patient": files.patient,
        "label_source": files.label_source,
        "label_column": files.label_column,
        "part": files.part,
        "role": files.role,
        "config": dataclasses.asdict(recipe.config),
        "weights": shards.sha256(Path(recipe.weights)) if recipe.weights else None,
        "files": {files.place(p): digest(p) for p in files.paths()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> str:
    """Hex digest of a file, or of all files in a folder with their names."""
    if not path.is_dir():
        return shards.sha256(path)
    inside = sorted(p for p in path.rglob("*") if p.is_file())
    listed = "".join(f"{p.relative_to(path).as_posix()}\n{shards.sha256(p)}\n" for p in inside)
    return hashlib.sha256(listed.encode()).hexdigest()


def read_section(row: dict[str, Any], todo: list[tuple[SectionFiles, str]], recipe: Recipe) -> dict[str, Any]:
    """Stage 1: read and check a section, order its genes and neighbours."""
    files, print_ = todo[row["item"]]
    try:
        section = readers.reader(files.format).read(files, recipe.config.max_image_pixels)
        content: shards.ShardContent | None = expression_content(section, recipe, print_)
        problems: list[Problem] = []
    except ProblemsError as error:
        content, problems = None, list(error.problems)
    return {"files": files, "content": content, "problems": _to_json(problems)}


def expression_content(section: RawSection, recipe: Recipe, fingerprint: str) -> shards.ShardContent:
    """Everything of a shard but what comes from the image; raises ProblemsError."""
    from senca_ray.data.graph import nearest_neighbors
    from senca_ray.data.preprocess import order_genes

    config, files = recipe.config, section.files
    expression = order_genes(section, config)
    if len(section.spots) < config.max_neighbors + 1:
        message = (
            f"{len(section.spots)} spots found; {config.max_neighbors} neighbours need at least "
            f"{config.max_neighbors + 1}; leave the section out or lower max_neighbors"
        )
        raise ProblemsError([Problem(files.sample, files.place(files.counts), message)], "1 section")
    meta = {
        "sample": files.sample,
        "patient": files.patient,
        "label_source": files.label_source,
        "modality": section.modality,
        "encoder": "none",
        "fingerprint": fingerprint,
        "format": files.format,
        "role": files.role,
        "spot_distance_um": section.spot_distance_um,
        "config": dataclasses.asdict(config),
        "raw_genes": len(section.genes),
        "notes": list(section.notes),
    }
    if files.simulated:
        meta["simulated"] = True
    return shards.ShardContent(
        meta=meta,
        spots=section.spots,
        xy=section.xy,
        pixel_xy=section.pixel_xy,
        labels=section.labels,
        annotations=section.annotations,
        neighbors=nearest_neighbors(section.xy, config.max_neighbors),
        genes=expression.genes,
        counts=expression.counts,
        dispersion=expression.dispersion,
        image_features=None,
        patches=None,
        thumbnail=None,
    )


class GpuStage:
    """Stage 2 as an actor: Ray ends the process of a GPU task, an actor keeps its encoder loaded."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        return encode_and_write(row, self._recipe)


def encode_and_write(row: dict[str, Any], recipe: Recipe) -> dict[str, str]:
    """Stage 2: add what comes from the image and write the shard; problems come back as text."""
    files: SectionFiles = row["files"]
    content: shards.ShardContent | None = row["content"]
    problems = row["problems"]
    if content is not None:
        try:
            if files.image is not None:
                content = with_image(content, files.image, recipe)
            shards.write_shard(Path(recipe.store), content)
        except SencaError as error:
            problems = _to_json([Problem(files.sample, files.place(files.image or files.counts), str(error))])
    return {"sample": files.sample, "problems": problems}


def with_image(content: shards.ShardContent, path: Path, recipe: Recipe) -> shards.ShardContent:
    """Add the image's features, thumbnail and, where asked for, patches; raises SencaError."""
    from senca_ray.data.images import open_image, thumbnail
    from senca_ray.data.patches import crop_patches, spot_distance_pixels

    config, pixels = recipe.config, content.pixel_xy
    if pixels is None:
        raise SencaError("an image without pixel positions of the spots; the reader has to give both")
    encoder = _encoder(config.encoders[0], recipe.weights)
    distance = spot_distance_pixels(pixels)
    features, kept = [], []
    with open_image(path, config.max_image_pixels) as image:
        small, scale = thumbnail(image)
        for start in range(0, len(pixels), _PATCHES_AT_ONCE):
            some = pixels[start : start + _PATCHES_AT_ONCE]
            patches = crop_patches(image, some, config.patch_radius * distance, config.patch_pixels)
            features.append(encoder.features(patches))
            if config.store_patches:
                kept.append(patches)
    added = {"encoder": encoder.name, "spot_distance_pixels": distance, "thumbnail_scale": scale}
    return dataclasses.replace(
        content,
        meta=content.meta | added,
        image_features=np.concatenate(features),
        patches=np.concatenate(kept) if kept else None,
        thumbnail=small,
    )


@functools.cache
def _encoder(name: str, weights: str | None) -> Encoder:
    """The encoder on this worker's device, loaded once a process."""
    import torch

    from senca_ray.model.image_encoder import load_encoder

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return load_encoder(name, Path(weights) if weights else None, device)


def _to_json(problems: list[Problem]) -> str:
    return json.dumps([dataclasses.astuple(p) for p in problems])
